//! `stoa top`: what uses most, of all hosts, as a screen that is drawn anew.
//!
//! ```text
//! collector → tree::figures (every few seconds, on the runtime) → Shown → the screen (a thread: keys, drawing)
//! ```
//!
//! On no terminal, and with `--once`, the list is printed and the command ends. What the collector tells is
//! printed with what steers a terminal escaped. Bounded: the tree of one answer, drawn over the last.

use std::io::IsTerminal as _;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table, TableState};
use stoa_daemon::Misuse;
use tokio::sync::watch;

use crate::client::{Client, ServerArgs};
use crate::query::{print, when};
use crate::table::{columns, printable};
use crate::tree::drawn::{figure, title};
use crate::tree::figures::{self, Field};
use crate::tree::{Kind, Node, Tree};

/// How often keys are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Show what uses most CPU, memory, storage and GPU: guests, containers, units, processes of all hosts
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stoa top
  stoa top --sort gpu-memory
  stoa top --host pve1 --once | head

Keys: c cpu, m memory, i storage, g GPU memory, u GPU time sort; h hosts on and off; p processes on and
off; arrows move; q ends.")]
pub(crate) struct TopArgs {
    /// What comes first
    #[arg(long, value_enum, default_value_t = Field::Cpu)]
    sort: Field,
    /// Only this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// How often to ask
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    every: String,
    /// Print the list once and end
    #[arg(long)]
    once: bool,
    /// The collector to ask.
    #[command(flatten)]
    server: ServerArgs,
}

/// What was heard last.
type Heard = Result<Tree, String>;

/// Runs `stoa top`.
///
/// # Errors
/// With [`Misuse`] in the chain when an argument is wrong; else when the collector does not answer at
/// first, or the terminal cannot be drawn on.
pub(crate) async fn run(args: TopArgs) -> anyhow::Result<()> {
    let every = u64::try_from(when::span("--every", &args.every)?).unwrap_or_default();
    if every < 500 {
        return Err(Misuse("--every: at least 500ms".to_owned()).into());
    }
    let client = Client::new(&args.server)?;
    let tree = ask(&client, args.host.as_deref()).await?;
    let mut view = View { sort: args.sort, ..View::default() };
    if args.once || !std::io::stdout().is_terminal() {
        return print(&listed(&view.nodes(&tree), view.sort));
    }
    let (heard, shown) = watch::channel(Ok(tree));
    let asking = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(every));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        while !heard.is_closed() {
            ticks.tick().await;
            let answer = ask(&client, args.host.as_deref()).await;
            let _before = heard.send_replace(answer.map_err(|error| format!("{error:#}")));
        }
    });
    let drawn = tokio::task::spawn_blocking(move || {
        let mut terminal = ratatui::try_init()?;
        let result = view.run(&mut terminal, shown);
        ratatui::restore();
        result
    });
    let result = drawn.await?;
    asking.abort();
    Ok(result?)
}

async fn ask(client: &Client, host: Option<&str>) -> anyhow::Result<Tree> {
    let tree = Tree::of(&figures::ask(client).await?);
    match host {
        Some(name) => tree
            .of_host(name)
            .ok_or_else(|| anyhow::anyhow!("nothing runs on {name} now, or no such host is heard")),
        None => Ok(tree),
    }
}

/// What is on the screen.
#[derive(Debug)]
struct View {
    sort: Field,
    hosts: bool,
    processes: bool,
    table: TableState,
}

impl Default for View {
    fn default() -> Self {
        Self { sort: Field::Cpu, hosts: false, processes: true, table: TableState::default() }
    }
}

impl View {
    fn run(
        &mut self,
        terminal: &mut ratatui::DefaultTerminal,
        mut shown: watch::Receiver<Heard>,
    ) -> std::io::Result<()> {
        let mut tree = Tree::default();
        let mut is_changed = true;
        loop {
            if is_changed || shown.has_changed().unwrap_or(false) {
                let fault = match &*shown.borrow_and_update() {
                    Ok(heard) => {
                        tree = heard.clone();
                        None
                    }
                    // What was heard before stays, with why it is old.
                    Err(why) => Some(why.clone()),
                };
                terminal.draw(|frame| self.draw(frame, &tree, fault.as_deref()))?;
            }
            is_changed = false;
            if event::poll(LOOK)? {
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL)
                            && key.code == KeyCode::Char('c');
                        if is_interrupt || !self.press(key.code) {
                            return Ok(());
                        }
                        is_changed = true;
                    }
                    Event::Resize(..) => is_changed = true,
                    _ => {}
                }
            }
        }
    }

    /// Whether it goes on.
    fn press(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') => self.sort = Field::Cpu,
            KeyCode::Char('m') => self.sort = Field::Memory,
            KeyCode::Char('i') => self.sort = Field::Io,
            KeyCode::Char('g') => self.sort = Field::GpuMemory,
            KeyCode::Char('u') => self.sort = Field::Gpu,
            KeyCode::Char('h') => self.hosts = !self.hosts,
            KeyCode::Char('p') => self.processes = !self.processes,
            KeyCode::Down => self.table.select_next(),
            KeyCode::Up => self.table.select_previous(),
            KeyCode::PageDown => self.table.scroll_down_by(20),
            KeyCode::PageUp => self.table.scroll_up_by(20),
            KeyCode::Home => self.table.select_first(),
            _ => {}
        }
        true
    }

    /// The nodes that are listed, in their order.
    fn nodes<'t>(&self, tree: &'t Tree) -> Vec<&'t Node> {
        let is_listed = |node: &&Node| match node.kind {
            Kind::Host => self.hosts,
            Kind::Process => self.processes,
            Kind::Gpu => false,
            Kind::Guest | Kind::Container | Kind::Unit => true,
        };
        let mut nodes: Vec<&Node> =
            tree.hosts.values().flat_map(Node::all).filter(is_listed).collect();
        let value = |node: &Node| node.figures.get(self.sort).unwrap_or(-1.0);
        nodes.sort_by(|a, b| value(b).total_cmp(&value(a)).then_with(|| a.id.cmp(&b.id)));
        nodes
    }

    fn draw(&mut self, frame: &mut Frame<'_>, tree: &Tree, fault: Option<&str>) {
        let [head, body] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
        let line = match fault {
            Some(why) => Line::styled(format!("not heard: {}", printable(why)), Modifier::REVERSED),
            None => Line::raw(summary(tree)),
        };
        frame.render_widget(line, head);
        let mut titles: Vec<Cell<'_>> = vec!["what".into(), "where".into()];
        titles.extend(Field::ALL.map(|field| {
            let style = if field == self.sort { Modifier::UNDERLINED } else { Modifier::empty() };
            let title = Line::styled(field.title(), Style::new().add_modifier(style));
            Cell::from(title.right_aligned())
        }));
        let rows = self.nodes(tree).into_iter().map(|node| {
            let mut cells: Vec<Cell<'_>> = vec![title(node).into(), printable(&place(node)).into()];
            cells.extend(
                Field::ALL.map(|field| Cell::from(Line::raw(figure(node, field)).right_aligned())),
            );
            Row::new(cells)
        });
        let widths = [
            Constraint::Fill(3),
            Constraint::Fill(2),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(11),
            Constraint::Length(9),
            Constraint::Length(9),
        ];
        let table = Table::new(rows, widths)
            .header(Row::new(titles).style(Modifier::BOLD))
            .row_highlight_style(Modifier::REVERSED);
        frame.render_stateful_widget(table, body, &mut self.table);
    }
}

/// Where a node is: its id without its own part.
fn place(node: &Node) -> String {
    let own = match node.kind {
        Kind::Host => return String::new(),
        Kind::Gpu | Kind::Guest | Kind::Container | Kind::Unit | Kind::Process => 2,
    };
    node.id.rsplitn(own + 1, '/').last().unwrap_or_default().to_owned()
}

fn summary(tree: &Tree) -> String {
    let mut parts: Vec<String> = Vec::new();
    for host in tree.hosts.values() {
        let cpu = figure(host, Field::Cpu);
        parts.push(format!("{} {cpu} {}", printable(&host.name), figure(host, Field::Memory)));
        let gpus = host.children.values().filter(|child| child.kind == Kind::Gpu);
        parts.extend(gpus.map(|gpu| {
            format!("{} {} {}", title(gpu), figure(gpu, Field::Gpu), figure(gpu, Field::GpuMemory))
        }));
    }
    parts.join(" · ")
}

fn listed(nodes: &[&Node], sort: Field) -> String {
    let mut titles = vec!["what".to_owned(), "where".to_owned()];
    titles.extend(Field::ALL.map(|field| {
        let mark = if field == sort { "*" } else { "" };
        format!("{:>11}", format!("{mark}{}", field.title()))
    }));
    let mut rows = vec![titles];
    for node in nodes {
        let mut cells = vec![title(node), place(node)];
        cells.extend(Field::ALL.map(|field| format!("{:>11}", figure(node, field))));
        rows.push(cells);
    }
    columns(&rows)
}

#[cfg(test)]
mod tests;
