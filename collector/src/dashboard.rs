//! What a Grafana dashboard asks for: the expressions of its panels.

use serde_json::Value;

/// All `expr` strings of a dashboard, in rows and panels at any depth, in the order of the file's
/// objects; the same one as often as it stands there.
#[must_use]
pub fn expressions(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(dashboard, &mut found);
    found
}

/// An expression with values in place of its variables, named without their `$`; others are left as
/// they are.
#[must_use]
pub fn filled(expression: &str, variables: &[(&str, &str)]) -> String {
    let mut longest_first = variables.to_vec();
    // `$node` is the begin of `$nodename` too.
    longest_first.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    longest_first.iter().fold(expression.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
    })
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(expr)) = object.get("expr") {
                found.push(expr.clone());
            }
            object.values().for_each(|value| collect(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_found_at_any_depth() {
        let dashboard = json!({
            "panels": [
                {"targets": [{"expr": "up"}, {"hide": true}]},
                {"type": "row", "panels": [{"targets": [{"expr": "node_load1"}, {"expr": "up"}]}]},
            ],
        });
        assert_eq!(expressions(&dashboard), ["up", "node_load1", "up"]);
    }

    #[test]
    fn variables_are_filled_by_their_whole_names() {
        let variables = [("node", "a"), ("nodename", "b"), ("__rate_interval", "1m")];
        let check = |text: &str, want: &str| assert_eq!(filled(text, &variables), want);
        check("rate(x{i=\"$node\"}[$__rate_interval])", "rate(x{i=\"a\"}[1m])");
        check("$nodename ${node} $other", "b a $other");
    }
}
