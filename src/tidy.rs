//! The rules of the house (see `lib.rs`), checked. A rule that only stands in a text erodes.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a room may use the rooms listed, and itself. The order is the order of the layers, top first.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "main",
        &[
            "server",
            "api",
            "broker",
            "group",
            "replica",
            "controller",
            "log",
            "store",
            "wire",
            "config",
            "metrics",
            "env",
            "error",
            "types",
        ],
    ),
    (
        "server",
        &["api", "broker", "group", "replica", "controller", "wire", "config", "metrics", "env", "error", "types"],
    ),
    ("api", &["broker", "group", "replica", "controller", "log", "wire", "config", "metrics", "env", "error", "types"]),
    ("broker", &["group", "replica", "controller", "config", "metrics", "env", "error", "types", "api"]),
    ("group", &["replica", "controller", "log", "wire", "config", "metrics", "env", "error", "types"]),
    ("replica", &["controller", "log", "store", "wire", "config", "metrics", "env", "error", "types"]),
    ("controller", &["store", "wire", "config", "metrics", "env", "error", "types"]),
    ("log", &["store", "wire", "config", "error", "types"]),
    ("store", &["error", "types", "metrics", "env"]),
    ("wire", &["log", "error", "types"]),
    ("config", &["error", "types"]),
    ("metrics", &["types", "error"]),
    ("env", &["types"]),
    ("error", &[]),
    ("types", &[]),
];

/// A word that only some files may contain: (word, files whose path under `src/` starts so, what to do instead).
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("rocksdb::", &["store/"], "go through store/"),
    ("openraft::", &["controller/raft"], "go through controller/"),
    ("kafka_protocol::", &["api/", "wire/"], "convert at the edge: wire types stop at api/ and wire/"),
    ("SystemTime::now", &["env.rs"], "take `now` as an argument"),
    ("Instant::now", &["env.rs"], "take `now` as an argument"),
    ("getrandom::", &["env.rs"], "draw chance in the shell, through env.rs"),
];

/// Words that a room must not contain at all.
const BANNED: &[(&str, &str, &str)] =
    &[("log/", "tokio::", "the log is synchronous"), ("log/", "async fn", "the log is synchronous")];

/// Lines of a file, tests left out. About 500 is the aim; this is where a file must be split.
const FILE_LIMIT: usize = 800;
/// Lines of a function. One screen is 70; this is where a function must be split.
const FUNCTION_LIMIT: usize = 100;

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("under src").to_string_lossy().replace('\\', "/");
            (name, fs::read_to_string(&path).expect("source is text"))
        })
        .filter(|(name, _)| name != "tidy.rs")
        .collect()
}

/// The code of a file without its unit tests and without comments.
fn code(text: &str) -> String {
    let production = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    production
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn room(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap_or(name)
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn imports_go_down_only() {
    let mut problems = Vec::new();
    for (name, text) in sources() {
        let from = room(&name);
        if from == "lib" || is_test_file(&name) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == from) else {
            problems.push(format!("src/{name}: the room `{from}` is not in the table of layers"));
            continue;
        };
        for (number, line) in code(&text).lines().enumerate() {
            for (at, prefix) in line.match_indices("crate::").chain(line.match_indices("ottla::")) {
                let rest = &line[at + prefix.len()..];
                let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let known = LAYERS.iter().any(|(layer, _)| *layer == target);
                if known && target != from && !allowed.contains(&target.as_str()) {
                    problems.push(format!("src/{name}:{}: `{from}` must not use `{target}`", number + 1));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn what_is_confined_to_a_room_stays_there() {
    let mut problems = Vec::new();
    for (name, text) in sources() {
        for (number, line) in code(&text).lines().enumerate() {
            for (word, homes, instead) in CONFINED {
                if line.contains(word) && !homes.iter().any(|home| name.starts_with(home)) && !is_test_file(&name) {
                    problems.push(format!("src/{name}:{}: `{word}`: {instead}", number + 1));
                }
            }
            for (place, word, instead) in BANNED {
                if name.starts_with(place) && line.contains(word) {
                    problems.push(format!("src/{name}:{}: `{word}`: {instead}", number + 1));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn every_module_opens_with_why() {
    let bare = |(name, text): &(String, String)| {
        (!text.starts_with("//!")).then(|| format!("src/{name}: opens without a paragraph of why it exists"))
    };
    report(sources().iter().filter_map(bare).collect());
}

#[test]
fn files_and_functions_stay_small() {
    let mut problems = Vec::new();
    for (name, text) in sources() {
        let code = code(&text);
        let lines: Vec<&str> = code.lines().collect();
        if lines.len() > FILE_LIMIT {
            problems.push(format!("src/{name}: {} lines; split it by concern", lines.len()));
        }
        // rustfmt closes a function with a brace at the indentation of its first line.
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let opens = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "async fn ",
                "pub async fn ",
                "const fn ",
                "pub const fn ",
            ];
            if !opens.iter().any(|open| line[indent..].starts_with(open)) {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|l| *l == close).unwrap_or(0);
            if length > FUNCTION_LIMIT {
                problems.push(format!("src/{name}:{}: a function of {length} lines; one screen is 70", start + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn there_are_no_stubs_and_no_ignored_tests() {
    let mut problems = Vec::new();
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                problems.push(format!("src/{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report(problems);
}
