//! Which series a target gets, under which labels: its `write_relabel_configs`, with Prometheus's meaning.

use stoa_exchange::relabel::{RelabelRule, relabel};
use stoa_model::Labels;
use stoa_tsdb::FollowedSeries;

/// The series that are left, under their new labels; and how many samples those held that are not. A
/// series gets those of the `external` labels that it has not, before the rules.
pub(super) fn relabelled(
    external: &Labels,
    rules: &[RelabelRule],
    series: Vec<FollowedSeries>,
) -> (Vec<FollowedSeries>, u64) {
    if rules.is_empty() && external.is_empty() {
        return (series, 0);
    }
    let mut left_out = 0;
    let mut kept = Vec::with_capacity(series.len());
    for FollowedSeries { labels, samples, histograms } in series {
        match relabel(rules, labels.with_missing(external)) {
            Some(labels) => kept.push(FollowedSeries { labels, samples, histograms }),
            None => left_out += (samples.len() + histograms.len()) as u64,
        }
    }
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn rules(text: &str) -> Vec<RelabelRule> {
        let text = format!(
            "[[remote_write]]\nurl = \"http://h/w\"\nwrite_relabel_configs = [{}]",
            text.trim()
        );
        let config = Config::parse(Path::new("c.toml"), &text).unwrap();
        config.remote_write.into_iter().next().unwrap().relabel
    }

    fn labels(text: &str) -> Labels {
        let pairs = text.split('|').filter(|pair| !pair.is_empty());
        Labels::from_pairs(pairs.map(|pair| pair.split_once('=').unwrap())).unwrap()
    }

    /// What becomes of labels, `-` when they are left out.
    #[track_caller]
    fn check(given: &str, text: &str, expected: &str) {
        let found = relabel(&rules(text), labels(given));
        assert_eq!(found, (expected != "-").then(|| labels(expected)), "{given} by {text}");
    }

    #[test]
    fn series_are_chosen_by_the_whole_value() {
        let drop = |regex: &str| {
            format!("{{ source_labels = ['a'], regex = '{regex}', action = 'drop' }}")
        };
        let keep = |regex: &str| {
            format!("{{ source_labels = ['a'], regex = '{regex}', action = 'keep' }}")
        };
        check("a=foo|b=bar", &drop(".*o.*"), "-");
        check("a=foo", &drop("no-match"), "a=foo");
        check("a=foo", &drop("f|o"), "a=foo");
        check("a=x\ny", &drop("x.y"), "-");
        check("a=foo", &keep("no-match"), "-");
        check("a=foo", &keep("f.*"), "a=foo");
        check("b=bar", &keep("f.*"), "-");
        check("b=bar", &keep(""), "b=bar");
        let both =
            "{ source_labels = ['a', 'b'], separator = '/', regex = 'x/y', action = 'keep' }";
        check("a=x|b=y", both, "a=x|b=y");
        check("a=x|b=z", both, "-");
        let after = format!("{}, {{ target_label = 'd', replacement = 'x' }}", drop(".*o.*"));
        check("a=foo", &after, "-");
    }

    #[test]
    fn labels_are_chosen_by_the_whole_name() {
        check("a=foo|b1=bar|b2=baz", "{ regex = '(b.*)', action = 'labelkeep' }", "b1=bar|b2=baz");
        check("a=foo|b1=bar|b2=baz", "{ regex = '(b.*)', action = 'labeldrop' }", "a=foo");
        check("a=foo|ab=bar", "{ regex = 'a', action = 'labeldrop' }", "ab=bar");
        check("a=foo", "{ regex = 'a', action = 'labeldrop' }", "-");
    }

    #[test]
    fn labels_are_set_from_what_matched() {
        let replace = |from: &str, regex: &str, to: &str, with: &str| {
            format!(
                "{{ source_labels = [{from}], regex = '{regex}', target_label = '{to}', \
                 replacement = '{with}' }}"
            )
        };
        let given = "a=foo|b=bar|c=baz";
        check(
            given,
            &replace("'a'", "f(.*)", "d", "ch${1}-ch${1}"),
            "a=foo|b=bar|c=baz|d=choo-choo",
        );
        let first = replace("'a', 'b'", "f(.*);(.*)r", "a", "b${1}${2}m");
        let second = replace("'c', 'a'", "(b).*b(.*)ba(.*)", "d", "$1$2$2$3");
        check(given, &format!("{first}, {second}"), "a=boobam|b=bar|c=baz|d=boooom");
        check("a=boo", &replace("'a'", "f", "b", "bar"), "a=boo");
        let dashed = "some-([^-]+)-([^,]+)";
        let value = "a=some-name-value";
        check(value, &replace("'a'", dashed, "${1}", "${2}"), "a=some-name-value|name=value");
        check(value, &replace("'a'", dashed, "${1}", "${3}"), value);
        check("a=some-name-0", &replace("'a'", dashed, "${3}", "${1}"), "a=some-name-0");
        check("a=some-name-0", &replace("'a'", dashed, "${2}", "${1}"), "a=some-name-0");
        // To nothing is to remove; the default takes the whole value along.
        check("a=foo|b=bar", &replace("'a'", "foo", "b", ""), "a=foo");
        check("a=foo", "{ source_labels = ['a'], target_label = 'b' }", "a=foo|b=foo");
        check("a=foo", "{ target_label = 'b', replacement = 'x' }", "a=foo|b=x");
        let path = replace("'t'", "(?:.+,|^)path:(/[^,]+).*", "p", "${1}");
        let job = replace("'t'", "(?:.+,|^)job:([^,]+).*", "job", "${1}");
        let tags = "t=path:/secret,job:some-job,x";
        check(tags, &format!("{path}, {job}"), &format!("{tags}|p=/secret|job=some-job"));
        // A group ends where it is told to, or where no letter, digit or _ follows.
        check("a=foo", &replace("'a'", "f(.*)", "d", "$1x-$$"), "a=foo|d=-$");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let series = |name: &str, n: i64| FollowedSeries {
            labels: labels(&format!("__name__={name}")),
            samples: (0..n).map(|t| (t, 0.0)).collect(),
            histograms: Vec::new(),
        };
        let rules = rules("{ source_labels = ['__name__'], regex = 'a|c', action = 'keep' }");
        let (kept, left_out) =
            relabelled(&Labels::empty(), &rules, vec![series("a", 1), series("b", 7)]);
        assert_eq!((kept, left_out), (vec![series("a", 1)], 7));
    }

    #[test]
    fn external_labels_are_added_before_the_rules() {
        let series = |text: &str| FollowedSeries {
            labels: labels(text),
            samples: vec![(1, 0.0)],
            histograms: Vec::new(),
        };
        let rules = rules("{ source_labels = ['site'], regex = 'home', action = 'keep' }");
        let given = vec![series("__name__=a"), series("__name__=b|site=far")];
        let (kept, left_out) = relabelled(&labels("site=home|zone=1"), &rules, given);
        assert_eq!((kept, left_out), (vec![series("__name__=a|site=home|zone=1")], 1));
    }
}
