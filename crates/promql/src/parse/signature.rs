//! The functions there are: names, arguments, results.

use super::ast::Type;
use super::ast::Type::{Matrix, Scalar, Text, Vector};

/// What a function takes and gives.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) args: &'static [Type],
    pub(crate) variadic: Variadic,
    pub(crate) returns: Type,
}

/// How many arguments may differ from those listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variadic {
    /// All listed, no more.
    Fixed,
    /// The last may be left out.
    Optional,
    /// Up to so many more of the last type, at least those listed less one.
    AtMost(usize),
    /// Any number of the last type, at least those listed less one.
    Any,
}

const fn fixed(name: &'static str, args: &'static [Type], returns: Type) -> Signature {
    Signature { name, args, variadic: Variadic::Fixed, returns }
}

const fn of_vector(name: &'static str) -> Signature {
    fixed(name, &[Vector], Vector)
}

const fn of_matrix(name: &'static str) -> Signature {
    fixed(name, &[Matrix], Vector)
}

const fn of_time(name: &'static str) -> Signature {
    Signature { name, args: &[Vector], variadic: Variadic::Optional, returns: Vector }
}

/// All functions, by name.
static SIGNATURES: [Signature; 90] = [
    of_vector("abs"),
    of_vector("absent"),
    of_matrix("absent_over_time"),
    of_vector("acos"),
    of_vector("acosh"),
    of_vector("asin"),
    of_vector("asinh"),
    of_vector("atan"),
    of_vector("atanh"),
    of_matrix("avg_over_time"),
    of_vector("ceil"),
    of_matrix("changes"),
    fixed("clamp", &[Vector, Scalar, Scalar], Vector),
    fixed("clamp_max", &[Vector, Scalar], Vector),
    fixed("clamp_min", &[Vector, Scalar], Vector),
    of_vector("cos"),
    of_vector("cosh"),
    of_matrix("count_over_time"),
    of_time("day_of_month"),
    of_time("day_of_week"),
    of_time("day_of_year"),
    of_time("days_in_month"),
    of_vector("deg"),
    of_matrix("delta"),
    of_matrix("deriv"),
    fixed("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector),
    fixed("end", &[], Scalar),
    of_vector("exp"),
    of_matrix("first_over_time"),
    of_vector("floor"),
    of_vector("histogram_avg"),
    of_vector("histogram_count"),
    fixed("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    fixed("histogram_quantile", &[Scalar, Vector], Vector),
    Signature {
        name: "histogram_quantiles",
        args: &[Vector, Text, Scalar, Scalar],
        variadic: Variadic::AtMost(9),
        returns: Vector,
    },
    of_vector("histogram_stddev"),
    of_vector("histogram_stdvar"),
    of_vector("histogram_sum"),
    of_time("hour"),
    of_matrix("idelta"),
    of_matrix("increase"),
    Signature {
        name: "info",
        args: &[Vector, Vector],
        variadic: Variadic::Optional,
        returns: Vector,
    },
    of_matrix("irate"),
    Signature {
        name: "label_join",
        args: &[Vector, Text, Text, Text],
        variadic: Variadic::Any,
        returns: Vector,
    },
    fixed("label_replace", &[Vector, Text, Text, Text, Text], Vector),
    of_matrix("last_over_time"),
    of_vector("ln"),
    of_vector("log10"),
    of_vector("log2"),
    of_matrix("mad_over_time"),
    fixed("max_of", &[Scalar, Scalar], Scalar),
    of_matrix("max_over_time"),
    fixed("min_of", &[Scalar, Scalar], Scalar),
    of_matrix("min_over_time"),
    of_time("minute"),
    of_time("month"),
    fixed("pi", &[], Scalar),
    fixed("predict_linear", &[Matrix, Scalar], Vector),
    of_matrix("present_over_time"),
    fixed("quantile_over_time", &[Scalar, Matrix], Vector),
    of_vector("rad"),
    fixed("range", &[], Scalar),
    of_matrix("rate"),
    of_matrix("resets"),
    Signature {
        name: "round",
        args: &[Vector, Scalar],
        variadic: Variadic::Optional,
        returns: Vector,
    },
    fixed("scalar", &[Vector], Scalar),
    of_vector("sgn"),
    of_vector("sin"),
    of_vector("sinh"),
    of_vector("sort"),
    Signature {
        name: "sort_by_label",
        args: &[Vector, Text],
        variadic: Variadic::Any,
        returns: Vector,
    },
    Signature {
        name: "sort_by_label_desc",
        args: &[Vector, Text],
        variadic: Variadic::Any,
        returns: Vector,
    },
    of_vector("sort_desc"),
    of_vector("sqrt"),
    fixed("start", &[], Scalar),
    of_vector("start_timestamp"),
    of_matrix("stddev_over_time"),
    of_matrix("stdvar_over_time"),
    fixed("step", &[], Scalar),
    of_matrix("sum_over_time"),
    of_vector("tan"),
    of_vector("tanh"),
    fixed("time", &[], Scalar),
    of_vector("timestamp"),
    of_matrix("ts_of_first_over_time"),
    of_matrix("ts_of_last_over_time"),
    of_matrix("ts_of_max_over_time"),
    of_matrix("ts_of_min_over_time"),
    fixed("vector", &[Scalar], Vector),
    of_time("year"),
];

/// The function of that name; names are case sensitive.
pub(crate) fn find(name: &str) -> Option<&'static Signature> {
    let at = SIGNATURES.binary_search_by(|signature| signature.name.cmp(name)).ok()?;
    SIGNATURES.get(at)
}

/// All functions, in order of their names.
pub(crate) fn all() -> &'static [Signature] {
    &SIGNATURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(SIGNATURES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
