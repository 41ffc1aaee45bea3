//! The rules of the house (see `lib.rs`), checked. A rule that only stands in a text erodes.
//!
//! Each rule is a function from a file's name and text to sentences, so that it can be shown to see what it looks for: a
//! test plants one violation of each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A room, and the rooms that it may use beside itself.
type Layer = (&'static str, &'static [&'static str]);

/// Who may import whom. The order is the order of the layers, top first: what a room may use stands further down.
const LAYERS: &[Layer] = &[
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
    ("server", &["api", "wire", "config", "metrics", "env", "error", "types"]),
    ("api", &["broker", "group", "replica", "controller", "log", "wire", "config", "metrics", "env", "error", "types"]),
    ("broker", &["group", "replica", "controller", "config", "metrics", "env", "error", "types"]),
    ("group", &["replica", "controller", "log", "wire", "config", "metrics", "env", "error", "types"]),
    ("replica", &["controller", "log", "store", "wire", "config", "metrics", "env", "error", "types"]),
    ("controller", &["store", "wire", "config", "metrics", "env", "error", "types"]),
    ("log", &["store", "wire", "config", "error", "types"]),
    ("store", &["error", "types", "metrics", "env"]),
    ("wire", &["error", "types"]),
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

/// Words that a room must not contain at all, not even in its tests.
const BANNED: &[(&str, &str, &str)] = &[
    ("log/", "tokio::", "the log is synchronous"),
    ("log/", "async ", "the log is synchronous"),
    ("log/", ".await", "the log is synchronous"),
];

/// What stands where something is missing. In two parts, so that a search for them does not end here.
const STUBS: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];

/// Lines of a file, tests left out. About 500 is the aim; this is where a file must be split.
const FILE_LIMIT: usize = 800;
/// Lines of a function. One screen is 70; this is where a function must be split.
const FUNCTION_LIMIT: usize = 100;

/// Every Rust file below a folder of the checkout, but this one, by its path below that folder.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(dir) = folders.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("a folder's entry").path();
            let name = path.strip_prefix(&root).expect("below its root").to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tidy.rs" {
                files.push((name, fs::read_to_string(&path).expect("source is text")));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "there is nothing in {folder}");
    files
}

/// The code of every file of `src/` that is not for tests only, by name.
pub fn production() -> Vec<(String, String)> {
    let files = sources("src").into_iter().filter(|(name, _)| !is_test_file(name));
    files.map(|(name, text)| (name, joined(&code(&text)))).collect()
}

/// A line and its number.
type Line<'a> = (usize, &'a str);

/// The code of a file: inline test modules are left out, comments are empty lines. A test module that is a file of its own
/// is only declared here, and what stands after the declaration is code.
fn code(text: &str) -> Vec<Line<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut code = Vec::with_capacity(lines.len());
    let mut at = 0;
    while at < lines.len() {
        if let Some(length) = test_module(&lines[at..]) {
            at += length;
            continue;
        }
        let line = if lines[at].trim_start().starts_with("//") { "" } else { lines[at] };
        code.push((at + 1, line));
        at += 1;
    }
    code
}

/// How many lines the inline test module has that begins with the first of these; none when none does.
fn test_module(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    if first.trim() != "#[cfg(test)]" {
        return None;
    }
    let head = lines.iter().position(|line| !line.trim_start().starts_with("#["))?;
    let opens = lines[head].trim_start().starts_with("mod ") && lines[head].ends_with(" {");
    // rustfmt closes it with a brace at the indentation of its first line.
    let close = format!("{}}}", indentation(first));
    let body = lines[head..].iter().position(|line| opens && *line == close)?;
    Some(head + body + 1)
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

fn joined(code: &[Line<'_>]) -> String {
    code.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
}

/// The room of a file: the first part of its path.
fn room(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap_or(name)
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Rule: imports go down only, along [`LAYERS`].
fn imports(name: &str, text: &str) -> Vec<String> {
    let from = room(name);
    if is_test_file(name) {
        return Vec::new();
    }
    let allowed = match LAYERS.iter().find(|(layer, _)| *layer == from) {
        Some((_, allowed)) => *allowed,
        // The map names the rooms and uses none.
        None if name == "lib.rs" => &[],
        None => return vec![format!("src/{name}: the room `{from}` is not in the table of layers")],
    };
    let used = rooms_used(name, &code(text)).into_iter();
    used.filter(|(_, used)| used != from && !allowed.contains(&used.as_str()))
        .map(|(number, used)| format!("src/{name}:{number}: `{from}` must not use `{used}`"))
        .collect()
}

/// What a file names at the root of the crate, and on which line its path or group of paths begins.
fn rooms_used(name: &str, code: &[Line<'_>]) -> Vec<(usize, String)> {
    let text = joined(code);
    let mut used = Vec::new();
    for end in root_paths(name, &text) {
        let (number, _) = code[text[..end].matches('\n').count()];
        used.extend(heads(&text[end..]).into_iter().map(|head| (number, head)));
    }
    used
}

/// Where in a text a path has reached the root of the crate: after `crate::`, after the crate's name, or after as many
/// `super::` as the module lies deep.
fn root_paths(name: &str, text: &str) -> Vec<usize> {
    let module = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = module.split('/').count();
    let starts = |at: usize| !text[..at].ends_with(is_word);
    let named = ["crate::", "ottla::"].into_iter().flat_map(|root| text.match_indices(root));
    let named = named.filter(|(at, _)| starts(*at)).map(|(at, root)| at + root.len());
    let up = "super::";
    let climbs = text.match_indices(up).filter(|(at, _)| starts(*at) && !text[..*at].ends_with(up));
    let climbed = climbs.filter_map(|(at, _)| {
        let steps = text[at..].split(up).take_while(|between| between.is_empty()).count();
        (steps >= depth).then_some(at + steps * up.len())
    });
    named.chain(climbed).collect()
}

/// The first names of what a path goes on with: one, or those of a group.
fn heads(rest: &str) -> Vec<String> {
    let head = |rest: &str| match rest.find(|c: char| !is_word(c)) {
        Some(0) => rest.chars().take(1).collect(),
        end => rest[..end.unwrap_or(rest.len())].to_owned(),
    };
    if !rest.starts_with('{') {
        return vec![head(rest)];
    }
    let (mut heads, mut depth, mut begins) = (Vec::new(), 0, false);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => {
                depth += 1;
                begins = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => begins = depth == 1,
            _ if begins && !c.is_whitespace() => {
                heads.push(head(&rest[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

/// Rule: a table of layers goes down only, and so has no cycle.
fn upward(layers: &[Layer]) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, (layer, allowed)) in layers.iter().enumerate() {
        let is_below = |room: &str| layers[at + 1..].iter().any(|(below, _)| *below == room);
        let wrong = allowed.iter().filter(|room| !is_below(room));
        problems.extend(wrong.map(|room| format!("`{layer}` may use `{room}`, which does not stand below it")));
    }
    problems
}

/// Rule: what is confined to a room stays there, and what a room must not have is not there.
fn confined(name: &str, text: &str) -> Vec<String> {
    let contains = |line: &str, word: &str| {
        let imported = format!("use {}", word.trim_end_matches(':'));
        line.contains(word) || word.ends_with(':') && line.contains(&imported)
    };
    let mut problems = Vec::new();
    for (number, line) in code(text) {
        for (word, homes, instead) in CONFINED {
            if contains(line, word) && !homes.iter().any(|home| name.starts_with(home)) && !is_test_file(name) {
                problems.push(format!("src/{name}:{number}: `{word}`: {instead}"));
            }
        }
        for (place, word, instead) in BANNED {
            if name.starts_with(place) && contains(line, word) {
                problems.push(format!("src/{name}:{number}: `{word}`: {instead}"));
            }
        }
    }
    problems
}

/// Rule: a module opens with why it exists.
fn opening(name: &str, text: &str) -> Vec<String> {
    let bare = !text.starts_with("//! ");
    bare.then(|| format!("src/{name}: opens without a paragraph of why it exists")).into_iter().collect()
}

/// Rule: files and functions stay small.
fn sizes(name: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut problems = Vec::new();
    if code.len() > FILE_LIMIT {
        problems.push(format!("src/{name}: {} lines; split it by concern", code.len()));
    }
    for (at, (number, line)) in code.iter().enumerate() {
        if !opens_function(line) {
            continue;
        }
        match function_lines(&code[at..]) {
            Some(lines) if lines <= FUNCTION_LIMIT => {}
            Some(lines) => {
                problems.push(format!("src/{name}:{number}: a function of {lines} lines; one screen is 70"));
            }
            None => problems.push(format!("src/{name}:{number}: a function whose end cannot be seen")),
        }
    }
    problems
}

/// True for the first line of a function, whatever its visibility and kind.
fn opens_function(line: &str) -> bool {
    let mut rest = line.trim_start();
    if let Some(shown) = rest.strip_prefix("pub") {
        rest = match shown.strip_prefix('(') {
            Some(to_whom) => to_whom.split_once(')').map_or("", |(_, rest)| rest),
            None => shown,
        };
    }
    let kinds = ["const ", "async ", "unsafe ", "extern \"C\" "];
    rest = rest.trim_start();
    while let Some(further) = kinds.iter().find_map(|kind| rest.strip_prefix(kind)) {
        rest = further;
    }
    rest.starts_with("fn ")
}

/// How many lines the function has that begins with the first of these. rustfmt closes it with a brace at the indentation
/// of its first line.
fn function_lines(code: &[Line<'_>]) -> Option<usize> {
    let head = code.iter().position(|(_, line)| line.ends_with(['{', ';', '}']))?;
    if !code[head].1.ends_with('{') {
        return Some(head + 1);
    }
    let close = format!("{}}}", indentation(code[0].1));
    code.iter().position(|(_, line)| *line == close).map(|lines| lines + 1)
}

/// Rule: there are no stubs and no ignored tests.
fn stubs(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| STUBS.iter().any(|word| line.contains(word)));
    lines.map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())).collect()
}

/// Holds a rule against every file of a folder.
fn hold(folder: &str, rule: fn(&str, &str) -> Vec<String>) {
    let problems: Vec<String> = sources(folder).iter().flat_map(|(name, text)| rule(name, text)).collect();
    assert!(problems.is_empty(), "{folder}: {} problem(s):\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn imports_go_down_only() {
    hold("src", imports);
}

#[test]
fn the_table_of_imports_goes_down_only_and_has_every_room() {
    assert_eq!(upward(LAYERS), [""; 0]);
    let rooms: BTreeSet<String> = sources("src").iter().map(|(name, _)| room(name).to_owned()).collect();
    let known: BTreeSet<String> = LAYERS.iter().map(|(layer, _)| (*layer).to_owned()).chain(["lib".into()]).collect();
    assert_eq!(rooms, known);
}

#[test]
fn what_is_confined_to_a_room_stays_there() {
    hold("src", confined);
}

#[test]
fn every_module_opens_with_why() {
    hold("src", opening);
}

#[test]
fn files_and_functions_stay_small() {
    hold("src", sizes);
}

#[test]
fn there_are_no_stubs_and_no_ignored_tests() {
    ["src", "protocol-tests/src", "protocol-tests/tests", "compat/src", "bench/src"]
        .into_iter()
        .for_each(|folder| hold(folder, stubs));
}

mod planted {
    //! One violation of each rule: the rule must see it, and must not see what only looks like one.

    use super::*;

    #[test]
    fn a_test_module_that_is_only_declared_hides_nothing() {
        let declared = "#[cfg(test)]\nmod tests;\nuse rocksdb::DB;";
        assert_eq!(code(declared).last(), Some(&(3, "use rocksdb::DB;")));
        let elsewhere = "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\nfn code() {}\n";
        assert_eq!(code(elsewhere).last(), Some(&(4, "fn code() {}")));
        let inline = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n// fn d() {}";
        assert_eq!(code(inline), [(1, "fn a() {}"), (7, "fn c() {}"), (8, "")]);
    }

    #[test]
    fn an_import_that_goes_up_is_seen_however_it_is_written() {
        for (name, text, line, used) in [
            ("store/read.rs", "use crate::server::Server;", 1, "server"),
            ("store/mod.rs", "#[cfg(test)]\nmod tests;\n\nuse crate::api::TABLE;", 4, "api"),
            ("store/read.rs", "use crate::{\n    error::{self, StoreError},\n    server::Server,\n};", 1, "server"),
            ("store/read.rs", "use super::super::group::Groups;", 1, "group"),
            ("store/mod.rs", "fn f() {\n    super::group::g();\n}", 2, "group"),
            ("store/read.rs", "fn f() -> crate::api::Row {}", 1, "api"),
            ("store/read.rs", "pub(super) use crate::log as x;", 1, "log"),
            ("store/read.rs", "use crate::*;", 1, "*"),
            ("store/read.rs", "use crate::{self as root};", 1, "self"),
            ("metrics.rs", "use super::server;", 1, "server"),
            ("lib.rs", "pub use crate::store::Store;", 1, "store"),
        ] {
            let expected = format!("src/{name}:{line}: `{}` must not use `{used}`", room(name));
            assert_eq!(imports(name, text), [expected], "{text}");
        }
        assert_eq!(
            imports("cellar/mod.rs", ""),
            ["src/cellar/mod.rs: the room `cellar` is not in the table of layers"]
        );
        for (name, text) in [
            ("store/read.rs", "use crate::error::StoreError;\nuse crate::store::keys;\nuse super::server_rows;"),
            ("store/read.rs", "use super::{server, api};"),
            ("store/read.rs", "// use crate::server::Server;"),
            ("store/read.rs", "#[cfg(test)]\nmod tests {\n    use crate::server::Server;\n}"),
            ("store/tests.rs", "use crate::server::Server;"),
            ("main.rs", "use ottla::{server, api::Row};\nuse my_crate::other;"),
        ] {
            assert_eq!(imports(name, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_table_with_a_way_up_or_around_is_seen() {
        assert_eq!(upward(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]), [""; 0]);
        let around = upward(&[("a", &["b"]), ("b", &["a"])]);
        assert_eq!(around, ["`b` may use `a`, which does not stand below it"]);
        assert_eq!(upward(&[("a", &["a", "nowhere"])]).len(), 2);
    }

    #[test]
    fn a_confined_word_outside_its_room_is_seen() {
        for (word, homes, instead) in CONFINED {
            let text = format!("#[cfg(test)]\nmod tests;\nlet x = {word}();");
            assert_eq!(confined("server/mod.rs", &text), [format!("src/server/mod.rs:3: `{word}`: {instead}")]);
            assert_eq!(confined(&format!("{}x.rs", homes[0]), &text), [""; 0]);
        }
        assert_eq!(confined("server/mod.rs", "use rocksdb as store;").len(), 1);
        for (room, word, instead) in BANNED {
            let name = format!("{room}mod.rs");
            assert_eq!(confined(&name, &format!("{word}x")), [format!("src/{name}:1: `{word}`: {instead}")]);
            assert_eq!(confined("replica/mod.rs", word), [""; 0]);
        }
        assert_eq!(confined("server/mod.rs", "// rocksdb::DB"), [""; 0]);
    }

    #[test]
    fn a_module_without_why_is_seen() {
        assert_eq!(opening("x.rs", "use std::fs;").len(), 1);
        assert_eq!(opening("x.rs", "//! Because.\n"), [""; 0]);
    }

    #[test]
    fn a_file_or_function_that_is_too_long_is_seen() {
        let lines = |count: usize| "x;\n".repeat(count);
        assert_eq!(sizes("x.rs", &lines(FILE_LIMIT)), [""; 0]);
        assert_eq!(sizes("x.rs", &lines(FILE_LIMIT + 1)).len(), 1);
        assert_eq!(sizes("x.rs", &format!("#[cfg(test)]\nmod tests;\n{}", lines(FILE_LIMIT))).len(), 1);
        assert_eq!(sizes("x.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(FILE_LIMIT))), [""; 0]);
        let heads = ["fn f() {", "pub fn f() {", "pub(super) async fn f() {", "pub(in crate::x) const unsafe fn f() {"];
        for head in heads.into_iter().chain(["fn f(\n    x: u8,\n) {", "extern \"C\" fn f() {"]) {
            let function = |body: usize| format!("{head}\n{}}}\n", lines(body));
            let around = head.lines().count() + 1;
            assert_eq!(sizes("x.rs", &function(FUNCTION_LIMIT - around)), [""; 0], "{head}");
            assert_eq!(sizes("x.rs", &function(FUNCTION_LIMIT - around + 1)).len(), 1, "{head}");
            assert_eq!(sizes("x.rs", &format!("{head}\n")).len(), 1, "{head} does not end");
        }
        let short = format!("fn a() {{}}\nfn b();\nfn c() {{ d() }}\n{}}}\n", lines(FUNCTION_LIMIT));
        assert_eq!(sizes("x.rs", &short), [""; 0]);
    }

    #[test]
    fn a_stub_or_an_ignored_test_is_seen() {
        for word in STUBS {
            assert_eq!(stubs("x.rs", &format!("fn f() {{\n    {word}\"later\"\n}}")).len(), 1, "{word}");
        }
        assert_eq!(stubs("x.rs", "// nothing to do, ignored!"), [""; 0]);
    }
}
