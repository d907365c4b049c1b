//! String literals: Go's escapes in `"…"` and `'…'`, none in `` `…` ``.

/// The bytes of a quoted literal, quotes included in `quoted`.
///
/// # Errors
/// A sentence saying what is wrong.
pub(crate) fn unquote(quoted: &str) -> Result<Vec<u8>, String> {
    let mut chars = quoted.chars();
    let (Some(open), Some(close)) = (chars.next(), chars.next_back()) else {
        return Err("invalid syntax".into());
    };
    if open != close || !matches!(open, '"' | '\'' | '`') {
        return Err("invalid syntax".into());
    }
    let body = chars.as_str();
    if open == '`' {
        return Ok(body.bytes().filter(|b| *b != b'\r').collect());
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            push_char(&mut bytes, c);
            continue;
        }
        match rest.next().ok_or("unfinished escape sequence")? {
            'a' => bytes.push(0x07),
            'b' => bytes.push(0x08),
            'f' => bytes.push(0x0c),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(0x0b),
            '\\' => bytes.push(b'\\'),
            '\'' => bytes.push(b'\''),
            '"' => bytes.push(b'"'),
            'x' => bytes.push(byte(digits(&mut rest, 2, 16)?)?),
            'u' => push_char(&mut bytes, scalar(digits(&mut rest, 4, 16)?)?),
            'U' => push_char(&mut bytes, scalar(digits(&mut rest, 8, 16)?)?),
            first @ '0'..='7' => {
                let mut value = first.to_digit(8).unwrap_or(0);
                value = value * 64 + digits(&mut rest, 2, 8)?;
                bytes.push(byte(value)?);
            }
            other => return Err(format!("unknown escape sequence {other:?}")),
        }
    }
    Ok(bytes)
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Result<u32, String> {
    let mut value = 0_u32;
    for _ in 0..count {
        let digit = rest
            .next()
            .and_then(|c| c.to_digit(radix))
            .ok_or("illegal character in escape sequence")?;
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}

fn byte(value: u32) -> Result<u8, String> {
    u8::try_from(value).map_err(|_too_large| "escape sequence is no byte".to_owned())
}

fn scalar(value: u32) -> Result<char, String> {
    char::from_u32(value)
        .ok_or_else(|| "escape sequence is an invalid Unicode code point".to_owned())
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_gos() {
        for (quoted, expect) in [
            (r#""a\nb""#, Ok(b"a\nb".to_vec())),
            (r"'\x41\101\u00e4\\'", Ok("AA\u{e4}\\".as_bytes().to_vec())),
            ("`a\\n`", Ok(b"a\\n".to_vec())),
            (r#""\xff""#, Ok(vec![0xff])),
            (r#""\q""#, Err(r"unknown escape sequence 'q'".to_owned())),
        ] {
            assert_eq!(unquote(quoted), expect, "{quoted}");
        }
    }
}
