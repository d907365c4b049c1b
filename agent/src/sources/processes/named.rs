//! Groups a person names: `[[sources.process.group]]`, meant as `process_exporter` means `process_names`.
//!
//! A group's name is a template in the manner of Go's with the same variables; a process belongs to
//! the first group whose every selector matches it. Names are at most [`NAME_BYTES_MAX`] bytes, a
//! command line is matched in its first 4 KiB.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::sources::settings::wrong_pattern;

/// The longest name told; longer ones are cut.
const NAME_BYTES_MAX: usize = 256;
/// The most memory one pattern takes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A group as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(default)]
    comm: Vec<String>,
    #[serde(default)]
    exe: Vec<String>,
    #[serde(default)]
    cmdline: Vec<String>,
}

/// Which processes belong to a group, and what it is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct NamedGroup {
    name: Template,
    comm: Vec<String>,
    exe: Vec<String>,
    cmdline: Vec<Regex>,
}

/// What groups are told of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) comm: &'a str,
    /// With a space after each argument but the last.
    pub(super) command_line: &'a str,
    /// The first argument; the name of one without arguments.
    pub(super) executable: &'a str,
    pub(super) user: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Comm,
    ExecutableBase,
    Executable,
    User,
    /// What a pattern captured under a name.
    Match(String),
    /// All that was captured, as Go prints a map.
    Matches,
}

impl TryFrom<Written> for NamedGroup {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, comm, exe, cmdline } = written;
        if comm.is_empty() && exe.is_empty() && cmdline.is_empty() {
            return Err("a group needs comm, exe or cmdline".into());
        }
        let patterns = cmdline.iter().map(|pattern| {
            let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
            built.map_err(|error| wrong_pattern(&error))
        });
        let name = name.as_deref().unwrap_or("{{.ExeBase}}");
        Ok(Self {
            name: Template::parse(name)?,
            cmdline: patterns.collect::<Result<_, _>>()?,
            comm,
            exe,
        })
    }
}

impl NamedGroup {
    /// The name, where it is the same for all processes.
    pub(super) fn fixed_name(&self) -> Option<&str> {
        match self.name.0.as_slice() {
            [Piece::Text(name)] => Some(name),
            _ => None,
        }
    }

    /// The name of the group that a process belongs to by this rule.
    fn name_of(&self, process: &Candidate<'_>) -> Option<String> {
        let is_comm = self.comm.is_empty() || self.comm.iter().any(|comm| comm == process.comm);
        let base = base(process.executable);
        let is_executable = self.exe.is_empty()
            || self.exe.iter().any(|exe| {
                let whole = exe.contains('/');
                exe == if whole { process.executable } else { base }
            });
        if !is_comm || !is_executable {
            return None;
        }
        let mut matches: Vec<(&str, &str)> = Vec::new();
        for pattern in &self.cmdline {
            let captures = pattern.captures(process.command_line)?;
            for (at, name) in pattern.capture_names().enumerate() {
                let name = name.unwrap_or_default();
                let text = captures.get(at).map_or("", |text| text.as_str());
                matches.retain(|(earlier, _)| *earlier != name);
                matches.push((name, text));
            }
        }
        matches.sort_unstable();
        Some(self.name.fill(process, &matches))
    }
}

/// The name of the first group a process belongs to.
pub(super) fn name(groups: &[NamedGroup], process: &Candidate<'_>) -> Option<String> {
    groups.iter().find_map(|group| group.name_of(process)).filter(|name| !name.is_empty())
}

fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after
                .split_once("}}")
                .ok_or_else(|| "a {{ in the name is not closed".to_owned())?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(match inside.trim() {
                ".Comm" => Piece::Comm,
                ".ExeBase" => Piece::ExecutableBase,
                ".ExeFull" => Piece::Executable,
                ".Username" => Piece::User,
                ".Matches" => Piece::Matches,
                other => match other.strip_prefix(".Matches.") {
                    Some(name) => Piece::Match(name.to_owned()),
                    None => {
                        return Err(format!(
                            "{{{{{inside}}}}} is not known, and what every process has anew \
                             would be a group without end; there are .Comm, .ExeBase, .ExeFull, \
                             .Username, .Matches and .Matches.NAME"
                        ));
                    }
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() { Err("a group's name is empty".into()) } else { Ok(Self(pieces)) }
    }

    /// `matches` by name; the whole of a match has none.
    fn fill(&self, process: &Candidate<'_>, matches: &[(&str, &str)]) -> String {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Comm => name.push_str(process.comm),
                Piece::ExecutableBase => name.push_str(base(process.executable)),
                Piece::Executable => name.push_str(process.executable),
                Piece::User => name.push_str(process.user),
                Piece::Match(wanted) => {
                    let found = matches.iter().find(|(name, _)| name == wanted);
                    name.push_str(found.map_or("<no value>", |(_, text)| *text));
                }
                Piece::Matches => {
                    let pairs = matches.iter().map(|(name, text)| format!("{name}:{text}"));
                    name.push_str(&format!("map[{}]", pairs.collect::<Vec<_>>().join(" ")));
                }
            }
        }
        let mut bytes = 0;
        let shown = name.chars().map(|c| if c.is_control() { '?' } else { c });
        shown
            .take_while(|c| {
                bytes += c.len_utf8();
                bytes <= NAME_BYTES_MAX
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups(toml: &str) -> Result<Vec<NamedGroup>, String> {
        #[derive(Deserialize)]
        struct File {
            group: Vec<NamedGroup>,
        }
        toml::from_str::<File>(toml).map(|file| file.group).map_err(|error| error.to_string())
    }

    const GROUPS: &str = r#"
        [[group]]
        comm = ["bash"]
        [[group]]
        exe = ["postgres", "/usr/local/bin/prometheus"]
        [[group]]
        name = "{{.ExeFull}}:{{ .Matches.Cfgfile }}"
        exe = ["/usr/local/bin/process-exporter"]
        cmdline = ['-config.path\s+(?P<Cfgfile>\S+)']
        [[group]]
        name = "{{.Matches}}"
        cmdline = ["redis-server", "port=(?P<port>[0-9]+)"]
        [[group]]
        name = "{{.Username}}/{{.Comm}}"
        cmdline = ["^java ", "app\\.jar"]
        [[group]]
        name = "web"
        comm = ["nginx"]
    "#;

    #[track_caller]
    fn check(comm: &str, command_line: &str, expected: Option<&str>) {
        let executable = command_line.split(' ').next().filter(|e| !e.is_empty()).unwrap_or(comm);
        let process = Candidate { comm, command_line, executable, user: "alice" };
        assert_eq!(name(&groups(GROUPS).unwrap(), &process).as_deref(), expected);
    }

    #[test]
    fn a_process_belongs_to_the_first_group_all_of_whose_selectors_match() {
        check("bash", "-bash", Some("-bash"));
        check("bash", "", Some("bash"));
        check("postgres", "/usr/lib/postgresql/15/bin/postgres -D x", Some("postgres"));
        check("prometheus", "/usr/local/bin/prometheus --x", Some("prometheus"));
        check("prometheus", "/opt/bin/prometheus --x", None);
        check(
            "process-exporte",
            "/usr/local/bin/process-exporter -config.path  a.yml",
            Some("/usr/local/bin/process-exporter:a.yml"),
        );
        check("process-exporte", "/usr/local/bin/process-exporter", None);
        check("redis-server", "redis-server port=6379", Some("map[:port=6379 port:6379]"));
        check("java", "java -jar app.jar", Some("alice/java"));
        check("java", "java -jar other.jar", None);
        check("nginx", "nginx: master process", Some("web"));
        assert_eq!(groups(GROUPS).unwrap().last().unwrap().fixed_name(), Some("web"));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (wrong, said) in [
            ("name = 'x'", "needs comm, exe or cmdline"),
            ("cmdline = ['(']", "not a pattern: unclosed group"),
            ("comm = ['a']\nname = '{{.PID}}'", "{{.PID}} is not known"),
            ("comm = ['a']\nname = '{{.Comm'", "is not closed"),
            ("comm = ['a']\nname = ''", "name is empty"),
            ("comm = ['a']\nnames = ''", "unknown field"),
        ] {
            let error = groups(&format!("[[group]]\n{wrong}\n")).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_process_is_called_a_name_is_bounded_and_plain(
            comm in ".{0,20}", command_line in "(redis-server port=1|java app.jar)?.{0,2000}",
        ) {
            let process = Candidate {
                comm: &comm, command_line: &command_line, executable: &command_line, user: "u",
            };
            let all = groups("[[group]]\nname='{{.ExeFull}}{{.Matches}}{{.Comm}}'\ncmdline=['.']");
            if let Some(name) = name(&all.unwrap(), &process) {
                prop_assert!(name.len() <= NAME_BYTES_MAX);
                prop_assert!(!name.chars().any(char::is_control));
            }
        }

        #[test]
        fn any_template_is_survived(text in ".{0,60}|(\\{\\{|\\}\\}|\\.Comm| |x){0,12}") {
            drop(Template::parse(&text));
        }
    }
}
