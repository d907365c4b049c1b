//! The wear of eMMC, which the kernel tells by itself: `/sys/block/mmcblk*/device/life_time`.

use super::wear;
use crate::sources::sheet::Sheet;
use crate::sources::{Roots, Tree, read_small};

/// Cards looked at, at most.
const CARDS_MAX: usize = 16;

pub(super) fn tell(roots: &Roots, sheet: &mut Sheet) {
    let Ok(entries) = std::fs::read_dir(roots.path(Tree::Sys, "block")) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut cards: Vec<String> = names.filter(|name| is_card(name)).take(CARDS_MAX).collect();
    cards.sort_unstable();
    for card in cards {
        let path = roots.path(Tree::Sys, format!("block/{card}/device/life_time"));
        let wear = read_small(&path).ok().and_then(|text| parse(&text));
        sheet.push_some(&wear::RATIO, &[("device", &card)], wear);
    }
}

/// `mmcblk0`, not its boot partitions.
fn is_card(name: &str) -> bool {
    let number = name.strip_prefix("mmcblk");
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The worse of the two kinds of memory: `0x02` is 10 to 20 % used, told as 0.2; `0x0b` is over 100 %.
/// 0 is not told (JESD84-B51, `DEVICE_LIFE_TIME_EST`).
fn parse(text: &str) -> Option<f64> {
    let steps = text.split_ascii_whitespace().take(2);
    let steps = steps.filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let worst = steps.filter(|step| (1..=11).contains(step)).max()?;
    Some(f64::from(worst) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_kind_of_memory_counts() {
        assert_eq!(parse("0x01 0x02"), Some(0.2));
        assert_eq!(parse("0x0b 0x01\n"), Some(1.1));
        assert_eq!(parse("0x00 0x00"), None);
        assert_eq!(parse("0xff"), None);
        assert_eq!(parse(""), None);
        assert!(is_card("mmcblk0") && !is_card("mmcblk0boot0") && !is_card("mmcblk"));
    }
}
