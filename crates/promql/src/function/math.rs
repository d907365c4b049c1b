//! Functions of one number.

/// The function of that name, if it maps each float by itself.
pub(crate) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => sign,
        _ => return None,
    })
}

fn sign(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// To the nearest multiple, halves up.
pub(crate) fn round(v: f64, nearest: f64) -> f64 {
    // Dividing by the inverse loses less than multiplying.
    let inverse = 1.0 / nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// Go's `math.Max(min, math.Min(max, v))`: NaN wins, unless a bound is infinite.
pub(crate) fn clamp(v: f64, min: f64, max: f64) -> f64 {
    largest(min, smallest(max, v))
}

/// The larger one, as Go's `math.Max`: infinity before NaN, 0 before -0.
pub(crate) fn largest(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// The smaller one, as Go's `math.Min`: -infinity before NaN, -0 before 0.
pub(crate) fn smallest(a: f64, b: f64) -> f64 {
    -largest(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_is_gos() {
        let inf = f64::INFINITY;
        for (a, b, larger, smaller) in [
            (1.0, 2.0, "2", "1"),
            (f64::NAN, inf, "inf", "NaN"),
            (-inf, f64::NAN, "NaN", "-inf"),
            (f64::NAN, 1.0, "NaN", "NaN"),
            (0.0, -0.0, "0", "-0"),
            (-0.0, 0.0, "0", "-0"),
        ] {
            assert_eq!(largest(a, b).to_string(), larger, "{a} {b}");
            assert_eq!(smallest(a, b).to_string(), smaller, "{a} {b}");
        }
        assert_eq!(clamp(5.0, 1.0, 3.0).to_string(), "3");
        assert!(clamp(5.0, f64::NAN, 3.0).is_nan());
    }
}
