//! The screen over a few nodes, drawn on a terminal in memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn tree() -> Tree {
    Tree::of(&figures::rows_of(
        "host cpu 2.5 host=pve1
         host memory 4096 host=pve1
         container cpu 0.5 host=pve1 guest=lxc/101 guest_name=web
         container memory 2048 host=pve1 guest=lxc/101 guest_name=web
         unit cpu 0.75 host=pve1 unit=cron.service
         process cpu 0.7 host=pve1 unit=cron.service comm=cron",
    ))
}

fn screen(keys: &[char], fault: Option<&str>) -> String {
    let mut view = View::default();
    for key in keys {
        assert!(view.press(KeyCode::Char(*key)));
    }
    let mut terminal = Terminal::new(TestBackend::new(90, 6)).unwrap();
    terminal.draw(|frame| view.draw(frame, &tree(), fault)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn what_uses_most_comes_first() {
    insta::assert_snapshot!("by_cpu", screen(&[], None));
    insta::assert_snapshot!("by_memory_with_hosts", screen(&['m', 'h', 'p'], None));
}

#[test]
fn a_collector_that_falls_silent_is_told_and_what_was_heard_stays() {
    let text = screen(&[], Some("no collector answers\u{1b}[31m"));
    assert!(text.contains("not heard: no collector answers") && text.contains("cron.service"));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_list_is_printed_where_nobody_watches() {
    let view = View::default();
    insta::assert_snapshot!("listed", listed(&view.nodes(&tree()), Field::Cpu));
    assert!(!View::default().press(KeyCode::Char('q')));
}
