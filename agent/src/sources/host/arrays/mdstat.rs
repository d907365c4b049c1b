//! `/proc/mdstat`: a text for people, of three or more lines for each array.

use crate::sources::number;

/// Arrays told at most.
const ARRAYS_MAX: usize = 1024;

/// What the text says of one array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::sources::host) struct Array<'a> {
    pub(in crate::sources::host) device: &'a str,
    pub(in crate::sources::host) state: &'a str,
    /// Devices that work.
    pub(in crate::sources::host) active: f64,
    /// Devices the array should have.
    pub(in crate::sources::host) required: f64,
    pub(in crate::sources::host) failed: f64,
    pub(in crate::sources::host) spare: f64,
    pub(in crate::sources::host) blocks: f64,
    pub(in crate::sources::host) blocks_synced: f64,
}

/// The arrays in the text; one that cannot be understood is left out.
pub(in crate::sources::host) fn parse(text: &str) -> impl Iterator<Item = Array<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_array = |line: &str| {
        let no_array = [" ", "\t", "Personalities", "unused", "read_ahead"];
        !line.trim().is_empty() && !no_array.iter().any(|start| line.starts_with(start))
    };
    let starts: Vec<usize> =
        (0..lines.len()).filter(|n| lines.get(*n).is_some_and(|line| is_array(line))).collect();
    starts.into_iter().take(ARRAYS_MAX).filter_map(move |start| {
        let device = lines.get(start)?;
        // What is said of it are the lines up to an empty one or the next array.
        let details = lines.get(start + 1..)?.iter().copied();
        let details =
            details.take_while(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
        array(device, details)
    })
}

fn array<'a>(line: &'a str, mut details: impl Iterator<Item = &'a str>) -> Option<Array<'a>> {
    let (device, rest) = line.split_once(':')?;
    let state = rest.split_ascii_whitespace().next()?;
    let status = details.next()?;
    let blocks = number(status.split_ascii_whitespace().next()?)?;
    let count = |what| line.matches(what).count() as f64;
    let (required, active) = if line.contains("raid0") || line.contains("linear") {
        // All of their devices work, or the array does not.
        (count("["), count("["))
    } else if state == "inactive" {
        (0.0, 0.0)
    } else {
        counts(status)?
    };
    let (state, blocks_synced) =
        details.find_map(|line| sync(line, blocks)).unwrap_or((state, blocks));
    Some(Array {
        device: device.trim_end(),
        state,
        active,
        required,
        failed: count("(F)"),
        spare: count("(S)"),
        blocks,
        blocks_synced,
    })
}

/// How many devices there should be and how many there are: `[3/2]`.
fn counts(status: &str) -> Option<(f64, f64)> {
    status.split_ascii_whitespace().find_map(|word| {
        let (required, active) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
        Some((number(required)?, number(active)?))
    })
}

/// What is done to the array and how far: `recovery =  8.5% (16775552/195310144) finish=…`.
fn sync(line: &str, blocks: f64) -> Option<(&'static str, f64)> {
    let (_, state) = [
        ("recovery", "recovering"),
        ("reshape", "reshaping"),
        ("check", "check"),
        ("resync", "resync"),
    ]
    .into_iter()
    .find(|(word, _)| line.contains(word))?;
    if line.contains("PENDING") || line.contains("DELAYED") {
        return Some((state, 0.0));
    }
    let done = line.split_once('(').and_then(|(_, rest)| number(rest.split_once('/')?.0));
    Some((state, done.unwrap_or(blocks)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrays_are_read_with_what_is_done_to_them() {
        let text = "Personalities : [raid1]\n\
            md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]\n      100 blocks [2/1] [U_]\n      \
            bitmap: 0/1 pages\n      [=>..]  recovery =  8.5% (9/100) finish=1min\n\n\
            md9 : active raid1 sdc2[0] sdd2[1]\n      7 blocks [2/2] [UU]\n      resync=DELAYED\n\
            md0 : active raid0 sda1[0] sdb1[1]\n      3 blocks\n\n\
            md4 : inactive sda[0](S)\n      5 blocks\n\nunused devices: <none>\n";
        let array = |device, state, counts: [f64; 6]| {
            let [active, required, failed, spare, blocks, blocks_synced] = counts;
            Array { device, state, active, required, failed, spare, blocks, blocks_synced }
        };
        assert_eq!(
            parse(text).collect::<Vec<_>>(),
            [
                array("md6", "recovering", [1.0, 2.0, 1.0, 1.0, 100.0, 9.0]),
                array("md9", "resync", [2.0, 2.0, 0.0, 0.0, 7.0, 0.0]),
                array("md0", "active", [2.0, 2.0, 0.0, 0.0, 3.0, 3.0]),
                array("md4", "inactive", [0.0, 0.0, 0.0, 1.0, 5.0, 5.0]),
            ]
        );
    }

    #[test]
    fn a_text_that_ends_early_is_read_as_far_as_it_goes() {
        assert_eq!(parse("md6 : active raid1 sda[0]").count(), 0);
        assert_eq!(parse("md6 : active raid1 sda[0]\n   100 blo").count(), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_bounded(
            text in "((md[0-9]|x) : (in)?active [a-z0-9 \\[\\]()]{0,9}\n( [0-9]{0,3} blocks [0-9/\\[\\]]{0,6}\n)?){0,9}|.*",
            arrays in 0_usize..2000,
        ) {
            let long = format!("{text}\n{}", "md1 : active raid0 a[0]\n 1 blocks\n".repeat(arrays));
            prop_assert!(parse(&long).count() <= ARRAYS_MAX);
        }
    }
}
