//! `/proc/PID/mountinfo`: what is mounted where.

use std::path::Path;

use stoa_model::Labels;

use crate::sources::file::unescaped;

/// One mount.
#[derive(Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) mount_point: String,
    pub(crate) fs_type: String,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) is_readonly: bool,
}

/// The mounts in the file's order; a line that is not understood is left out.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(parse_line)
}

/// `id parent major:minor root mount-point options [tags…] - type source super-options`
fn parse_line(line: &str) -> Option<Mount> {
    let mut words = line.split(' ');
    let (major, minor) = words.nth(2)?.split_once(':')?;
    let mount_point = words.nth(1)?;
    let options = words.next()?;
    words.find(|word| *word == "-")?;
    let fs_type = words.next()?;
    let device = words.next()?;
    let super_options = words.next().unwrap_or_default();
    Some(Mount {
        device: unescaped(device),
        mount_point: unescaped(mount_point),
        fs_type: fs_type.to_owned(),
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        is_readonly: options.split(',').chain(super_options.split(',')).any(|word| word == "ro"),
    })
}

impl Mount {
    /// The mount as the host sees it, when we see the host's root somewhere else.
    pub(crate) fn without_prefix(mut self, rootfs: &Path) -> Self {
        let prefix = rootfs.to_str().unwrap_or_default().trim_end_matches('/');
        if let Some(rest) = self.mount_point.strip_prefix(prefix) {
            if rest.is_empty() {
                self.mount_point = "/".to_owned();
            } else if rest.starts_with('/') {
                self.mount_point = rest.to_owned();
            }
        }
        self
    }

    /// What tells it from other mounts.
    pub(super) fn identity(&self) -> String {
        format!("{} {} {}", self.device, self.mount_point, self.fs_type)
    }

    pub(super) fn labels(&self, error: &str) -> Labels {
        Labels::from_pairs_last_wins([
            ("device", self.device.as_str()),
            ("mountpoint", self.mount_point.as_str()),
            ("fstype", self.fs_type.as_str()),
            ("device_error", error),
        ])
    }

    pub(super) fn info_labels(&self) -> Labels {
        Labels::from_pairs_last_wins([
            ("device", self.device.as_str()),
            ("major", &*self.major.to_string()),
            ("minor", &*self.minor.to_string()),
            ("mountpoint", self.mount_point.as_str()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_names_device_place_type_and_state() {
        let line =
            "29 1 259:2 / /mnt/a\\040b rw,relatime shared:1 - ext4 /dev/dm-2 ro,data=ordered";
        let mount = parse(line).next().unwrap();
        assert_eq!(
            mount,
            Mount {
                device: "/dev/dm-2".into(),
                mount_point: "/mnt/a b".into(),
                fs_type: "ext4".into(),
                major: 259,
                minor: 2,
                is_readonly: true,
            }
        );
        for wrong in ["", "1 2", "29 1 259:2 / / rw - ext4", "29 1 x:2 / / rw - ext4 /dev/a rw"] {
            assert_eq!(parse(wrong).count(), 0, "{wrong}");
        }
    }

    #[test]
    fn a_root_elsewhere_is_taken_off() {
        let mount = |at: &str| Mount {
            device: "d".into(),
            mount_point: at.into(),
            fs_type: "ext4".into(),
            major: 0,
            minor: 0,
            is_readonly: false,
        };
        for (root, at, expected) in [
            ("/", "/home", "/home"),
            ("/", "/", "/"),
            ("/host", "/host", "/"),
            ("/host", "/host/home", "/home"),
            ("/host", "/hostile", "/hostile"),
        ] {
            let seen = mount(at).without_prefix(Path::new(root));
            assert_eq!(seen.mount_point, expected, "{at} under {root}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            parse(&text).count();
        }
    }
}
