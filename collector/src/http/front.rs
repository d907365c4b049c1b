//! The front page: what a person sees who opens the address in a browser.
//!
//! Which hosts there are and whether they are up, how much is stored, and the one line Grafana
//! needs. No script, no style from elsewhere; every text from outside is escaped. The style is a file
//! of its own because the content security policy lets no page carry one.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};

use super::routes::{Routes, Scope};

/// Most hosts listed; more are counted.
const HOSTS_SHOWN_MAX: usize = 500;

/// What the page says.
#[derive(Clone, Debug, Default)]
pub struct FrontFacts {
    /// The collector's version.
    pub version: &'static str,
    /// Series being written.
    pub series: u64,
    /// Samples stored since the start.
    pub samples_stored: u64,
    /// Bytes under the data directory's store.
    pub disk_bytes: u64,
    /// Every enrolled host and whether it is up.
    pub hosts: Vec<(String, bool)>,
    /// The address people use, as `http://127.0.0.1:7480`.
    pub url: String,
}

/// Tells the facts as of now; called on a thread that may block.
pub type Facts = Arc<dyn Fn() -> FrontFacts + Send + Sync>;

/// The front page's route.
pub fn routes(facts: Facts) -> Routes {
    Routes::new()
        .get("/", Scope::Read, page)
        .get("/front.css", Scope::Read, style)
        .with_state(facts)
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

const STYLE: &str = "\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h1 small { font-weight: normal; opacity: .6 }
table { border-collapse: collapse; margin-top: 1.5rem; min-width: 20rem }
th, td { text-align: left; padding: .25rem 2rem .25rem 0; border-bottom: 1px solid #8884 }
.up { color: #2e8b57 } .down { color: #d03030; font-weight: bold }
form { margin-top: 1.5rem; display: flex; gap: .5rem }
input { flex: 1; font: .9rem monospace; padding: .3rem }
code { background: #8882; padding: .1rem .3rem; border-radius: .2rem }
";

async fn page(State(facts): State<Facts>, uri: Uri, headers: HeaderMap) -> Response {
    let reached = reached(&uri, &headers);
    let draw = move || {
        let mut facts = facts();
        if let (Some(name), Some((scheme, _))) = (reached, facts.url.split_once("://")) {
            facts.url = format!("{scheme}://{name}");
        }
        html(&facts)
    };
    match tokio::task::spawn_blocking(draw).await {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The host and port the browser used: what it can reach, Grafana beside it can, unlike the address
/// listened on, which may be `0.0.0.0`. Access control has let only our own names through.
fn reached(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(ToString::to_string).or_else(|| host.map(str::to_owned))
}

fn html(facts: &FrontFacts) -> String {
    let up = facts.hosts.iter().filter(|(_, up)| *up).count();
    let mut rows = String::new();
    for (name, is_up) in facts.hosts.iter().take(HOSTS_SHOWN_MAX) {
        let state = if *is_up { "up" } else { "down" };
        let name = escape(name);
        #[expect(clippy::let_underscore_must_use, reason = "writing to a String cannot fail")]
        let _ = write!(rows, "<tr><td>{name}</td><td class=\"{state}\">{state}</td></tr>");
    }
    let url = escape(&facts.url);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Stoa</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"stylesheet\" href=\"front.css\"></head><body>\
         <h1>Stoa <small>{version}</small></h1>\
         <p>{up} of {total} hosts up, {series} series, {samples} samples stored, {disk} on disk.</p>\
         <p>Grafana: a data source of type Prometheus with the URL <code>{url}</code>, \
         then import dashboard 1860 (Node Exporter Full).</p>\
         <form action=\"/api/v1/query\" method=\"get\">\
         <input name=\"query\" aria-label=\"PromQL\" value=\"sum by (instance) (rate(node_cpu_seconds_total{{mode!=&quot;idle&quot;}}[1m]))\"> \
         <button>ask (JSON)</button></form>\
         <table><thead><tr><th>host</th><th>state</th></tr></thead><tbody>{rows}</tbody></table>\
         </body></html>",
        version = escape(facts.version),
        total = facts.hosts.len(),
        series = facts.series,
        samples = facts.samples_stored,
        disk = size(facts.disk_bytes),
    )
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Bytes as a person reads them: `1.5 MiB`.
fn size(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_stay_text() {
        let page = html(&FrontFacts {
            hosts: vec![("<script>alert(1)</script>".into(), true), ("b".into(), false)],
            url: "http://x/\"onload=".into(),
            disk_bytes: 1536,
            ..FrontFacts::default()
        });
        assert!(!page.contains("<script>") && !page.contains("\"onload="), "{page}");
        assert!(page.contains("1 of 2 hosts up") && page.contains("1.5 KiB"), "{page}");
    }
}
