//! An Ollama of a few answers on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::sources::registry::made_of;

/// Answers so many requests, each path with its text; the address it listens at.
fn serve(requests: usize, answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = answers.iter().find(|(it, _)| *it == path).map(|(_, body)| *body);
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

/// What is told of an Ollama at `url`, the port for `P`, and what was complained of.
fn told(url: &str) -> (Vec<String>, Vec<String>) {
    let settings: Settings = toml::from_str(&format!("urls = [{url:?}]")).unwrap();
    let mut source: Ollama = made_of(settings);
    let mut reading = Reading::default();
    source.read(&Roots::default(), Now { unix_micros: 0 }, &mut reading);
    let mut lines = Vec::new();
    for family in reading.families() {
        let metrics = family.metrics.iter();
        lines.extend(metrics.map(|it| {
            let line = format!("{}{} {}", family.name, it.labels, it.value);
            line.replace(url, "URL")
        }));
    }
    let problems = reading.problems.iter().map(|it| it.to_string().replace(url, "URL")).collect();
    (lines, problems)
}

#[test]
fn loaded_models_are_told_with_their_share_of_the_gpu() {
    let url = serve(
        2,
        &[
            (
                "/api/ps",
                r#"{"models":[{"name":"mistral:latest","model":"mistral:latest","size":5137025024,
                "digest":"2ae6f6dd7a3d","details":{"parent_model":"","format":"gguf","family":"llama",
                "families":["llama"],"parameter_size":"7.2B","quantization_level":"Q4_0"},
                "expires_at":"2024-06-04T14:38:31.5-07:00","size_vram":4294967296,"context_length":4096}]}"#,
            ),
            ("/api/version", r#"{"version":"0.12.3"}"#),
        ],
    );
    let (lines, problems) = told(&url);
    assert_eq!(problems, [""; 0]);
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_idle_one_has_no_models() {
    for answers in [
        &[("/api/ps", r#"{"models":null}"#), ("/api/version", "{}")],
        &[("/api/ps", r#"{"models":[]}"#), ("/api/version", "{}")],
    ] {
        let (lines, problems) = told(&serve(2, answers));
        let none = r#"stoa_ollama_models_loaded{url="URL"} 0"#.to_owned();
        assert!(lines.contains(&none), "{lines:?}");
        assert_eq!(problems, [""; 0]);
    }
}

#[test]
fn what_is_no_ollama_and_one_that_is_gone_are_told_as_down() {
    let (lines, problems) = told(&serve(1, &[]));
    assert_eq!(lines, [r#"stoa_ollama_up{url="URL"} 0"#]);
    assert_eq!(problems, ["Ollama: URL: it answers 404 Not Found"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (lines, problems) = told(&url);
    assert_eq!(lines, [r#"stoa_ollama_up{url="URL"} 0"#]);
    assert_eq!(problems, ["Ollama: URL: nothing listens there"]);
}
