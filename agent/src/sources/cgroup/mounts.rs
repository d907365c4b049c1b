//! `/proc/1/mountinfo`, for what it says about cgroups and lxcfs.

use crate::sources::Roots;
use crate::sources::file::{read_bounded, unescaped};

/// A host with thousands of containers has this many mounts and more; what bounds a container stands
/// among the first.
const MOUNTS_MAX: usize = 4096;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `major:minor`
    pub(crate) device: String,
    /// What of the file system is mounted.
    pub(crate) root: String,
    /// Where.
    pub(crate) point: String,
    pub(crate) fs_type: String,
    /// For cgroup v1: the controllers, among others.
    pub(crate) super_options: String,
}

/// Init's mounts; none where they may not be read.
pub(crate) fn of_init(roots: &Roots) -> Vec<Mount> {
    parse(&read_bounded(&roots.procfs.join("1/mountinfo")))
}

/// At most 4096 mounts in the file's order; a line that is not understood is left out.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).take(MOUNTS_MAX).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let mut words = line.split(' ');
    let device = words.nth(2)?;
    let (root, point) = (words.next()?, words.next()?);
    words.find(|word| *word == "-")?;
    let fs_type = words.next()?;
    let super_options = words.nth(1).unwrap_or_default();
    Some(Mount {
        device: device.to_owned(),
        root: unescaped(root),
        point: unescaped(point),
        fs_type: fs_type.to_owned(),
        super_options: super_options.to_owned(),
    })
}

impl Mount {
    /// Whether this is the hierarchy of a v1 controller.
    pub(crate) fn has_controller(&self, controller: &str) -> bool {
        self.fs_type == "cgroup" && self.super_options.split(',').any(|word| word == controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_they_are() {
        let mounts = parse("30 25 0:26 /a\\134b /mnt/c\\040d\\011e rw - cgroup cgroup rw,cpu\n");
        let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!((mount.root.as_str(), mount.point.as_str()), ("/a\\b", "/mnt/c d\te"));
        assert!(mount.has_controller("cpu"));
    }
}
