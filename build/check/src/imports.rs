//! Finds which modules of a crate name which others, by walking tokens.
//!
//! Tokens rather than a syntax tree: a path inside a macro call counts, too, and comments and strings do
//! not. A name counts when it follows `crate::` (the crate's own name in the binary), or as many `super::`
//! as lead to the crate root.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Names that stand for the crate root: the keyword, and the library's name as its binary sees it.
const ROOTS: [&str; 2] = ["crate", "oxbow_kernel"];

/// One file, as tokens.
pub struct Source {
    file: String,
    /// Names of the modules from the crate root to this file.
    path: Vec<String>,
    tokens: Vec<TokenTree>,
}

/// A top-level module that names another one. Modules go by the name of their top-level ancestor.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    pub from: String,
    pub to: String,
    /// `file:line`.
    pub place: String,
}

/// The module path of a file, from its path relative to the crate's `src`.
pub fn module_path(relative: &Path) -> Vec<String> {
    let mut path: Vec<String> = relative
        .with_extension("")
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    if path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    path
}

impl Source {
    /// Splits `text` into tokens; an error names the file and what the lexer says.
    pub fn parse(file: &Path, path: Vec<String>, text: &str) -> Result<Self, String> {
        let file = file.display().to_string();
        let tokens = text.parse::<TokenStream>().map_err(|error| {
            let at = error.span().start();
            format!("{file}:{}: {error}", at.line)
        })?;
        Ok(Self {
            file,
            path,
            tokens: tokens.into_iter().collect(),
        })
    }

    /// The top-level module this file belongs to.
    fn module(&self) -> &str {
        self.path.first().map_or("lib", String::as_str)
    }

    /// How many `super` lead from this file to the crate root: the roots themselves are none away.
    fn depth(&self) -> usize {
        match self.module() {
            "lib" | "main" => 0,
            _ => self.path.len(),
        }
    }
}

/// All imports of a crate, in the order of `sources`.
pub fn imports(sources: &[Source]) -> Vec<Import> {
    // Exported macros live at the crate root; they count as their defining module.
    let mut macros = BTreeMap::new();
    for source in sources {
        exported_macros(&source.tokens, &mut |name| {
            macros.insert(name, source.module().to_owned());
        });
    }
    let mut found = Vec::new();
    // Tests are not part of the kernel: they may build a world from any layer.
    for source in sources
        .iter()
        .filter(|source| source.path.last().is_none_or(|name| name != "tests"))
    {
        names_at_root(&source.tokens, source.depth(), &mut |name, line| {
            found.push(Import {
                from: source.module().to_owned(),
                to: macros.get(&name).cloned().unwrap_or(name),
                place: format!("{}:{line}", source.file),
            });
        });
    }
    found
}

/// Calls `report` with every name that the tokens look up in the crate root, and its line.
/// `depth` is how many `super` lead there.
fn names_at_root(tokens: &[TokenTree], depth: usize, report: &mut impl FnMut(String, usize)) {
    let mut at = 0;
    while at < tokens.len() {
        let mut inner_depth = depth;
        match &tokens[at] {
            TokenTree::Ident(ident) if ROOTS.iter().any(|root| ident == root) => {
                if let Some(next) = after_colons(tokens, at + 1) {
                    heads(&tokens[next..], report);
                }
            }
            TokenTree::Ident(ident) if ident == "super" && !preceded_by_path(tokens, at) => {
                let (ups, next) = climb(tokens, at);
                if depth > 0 && ups == depth {
                    heads(&tokens[next..], report);
                }
                // What follows the path was only looked at; the walk goes on behind `super`s.
                at = next.saturating_sub(1).max(at);
            }
            TokenTree::Group(group) => {
                if group.delimiter() == Delimiter::Brace && is_module_body(tokens, at) {
                    inner_depth += 1;
                    if matches!(&tokens[at - 1], TokenTree::Ident(name) if name == "tests") {
                        at += 1;
                        continue;
                    }
                }
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                names_at_root(&inner, inner_depth, report);
            }
            _ => {}
        }
        at += 1;
    }
}

/// Reports the first name of a path, or of each path in a `{...}` list.
fn heads(tokens: &[TokenTree], report: &mut impl FnMut(String, usize)) {
    match tokens.first() {
        Some(TokenTree::Ident(ident)) if ident != "self" => {
            report(ident.to_string(), ident.span().start().line);
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for tree in inner.split(|token| is_punct(token, ',')) {
                heads(tree, report);
            }
        }
        _ => {}
    }
}

/// Counts the `super::` that start at `at`; returns also where the path goes on.
fn climb(tokens: &[TokenTree], mut at: usize) -> (usize, usize) {
    let mut ups = 0;
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        if ident != "super" {
            break;
        }
        let Some(next) = after_colons(tokens, at + 1) else {
            break;
        };
        ups += 1;
        at = next;
    }
    (ups, at)
}

/// Where the path goes on if `::` stands at `at`.
fn after_colons(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let colon = |index: usize| tokens.get(index).is_some_and(|token| is_punct(token, ':'));
    (colon(at) && colon(at + 1) && at + 2 < tokens.len()).then_some(at + 2)
}

/// Does `::` stand before `at`? Then the name there is not the head of its path.
fn preceded_by_path(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_punct(&tokens[at - 1], ':') && is_punct(&tokens[at - 2], ':')
}

/// Is the group at `at` the body of a `mod name`?
fn is_module_body(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2
        && matches!(&tokens[at - 1], TokenTree::Ident(_))
        && matches!(&tokens[at - 2], TokenTree::Ident(ident) if ident == "mod")
}

/// Reports the names of `#[macro_export] macro_rules!` definitions.
fn exported_macros(tokens: &[TokenTree], report: &mut impl FnMut(String)) {
    let mut exported = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket
                    && at > 0
                    && is_punct(&tokens[at - 1], '#') =>
            {
                exported |= group.stream().to_string() == "macro_export";
            }
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                exported_macros(&inner, report);
            }
            TokenTree::Ident(ident) if ident == "macro_rules" => {
                if let (true, Some(TokenTree::Ident(name))) = (exported, tokens.get(at + 2)) {
                    report(name.to_string());
                }
                exported = false;
            }
            _ => {}
        }
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports of one file, as `to:line`.
    fn of(relative: &str, text: &str) -> Vec<String> {
        let source = Source::parse(Path::new("f"), module_path(Path::new(relative)), text).unwrap();
        imports(&[source])
            .iter()
            .map(|import| format!("{}{}", import.to, import.place.trim_start_matches('f')))
            .collect()
    }

    #[test]
    fn paths_of_files() {
        let path = |text| module_path(Path::new(text)).join("/");
        assert_eq!(path("lib.rs"), "lib");
        assert_eq!(path("mm/mod.rs"), "mm");
        assert_eq!(path("drivers/virtio/blk.rs"), "drivers/virtio/blk");
    }

    #[test]
    fn finds_crate_paths_in_uses_lists_and_code() {
        let text = "use crate::mm::Frame;\nuse crate::{sync::{Spin, crate_thing}, time};\nfn f() { crate::log::put(1) }\n";
        assert_eq!(
            of("vm/space.rs", text),
            ["mm:1", "sync:2", "time:2", "log:3"]
        );
    }

    #[test]
    fn counts_macro_bodies_but_not_comments_strings_or_visibility() {
        let text = "// crate::init\n/// crate::init\npub(crate) fn f() { g!(\"crate::init\", crate::mm::x) }";
        assert_eq!(of("vm/space.rs", text), ["mm:3"]);
    }

    #[test]
    fn super_counts_when_it_reaches_the_root() {
        assert_eq!(
            of(
                "vm/space.rs",
                "use super::fault::F; use super::super::mm::X;"
            ),
            ["mm:1"]
        );
        assert_eq!(of("vm/mod.rs", "use super::mm;"), ["mm:1"]);
        assert_eq!(
            of(
                "vm/mod.rs",
                "mod inner { use super::mm; use super::super::sync::{A, B}; }"
            ),
            ["sync:1"]
        );
        assert_eq!(
            of("lib.rs", "mod inner { use super::*; }"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn tests_do_not_count() {
        assert!(of("vfs/tests.rs", "use crate::filesystems::x;").is_empty());
        assert!(of("vfs/mod.rs", "mod tests { use crate::filesystems::x; }").is_empty());
    }

    #[test]
    fn the_binary_names_the_library() {
        assert_eq!(of("main.rs", "oxbow_kernel::init::start(1);"), ["init:1"]);
    }

    #[test]
    fn exported_macros_count_as_their_module() {
        let log = "#[macro_export]\nmacro_rules! info { () => { $crate::log::put() } }";
        let sources = [
            Source::parse(Path::new("log.rs"), module_path(Path::new("log.rs")), log).unwrap(),
            Source::parse(
                Path::new("vm.rs"),
                module_path(Path::new("vm.rs")),
                "crate::info!();",
            )
            .unwrap(),
        ];
        let all = imports(&sources);
        assert!(all.contains(&Import {
            from: "vm".into(),
            to: "log".into(),
            place: "vm.rs:1".into()
        }));
        assert!(all.contains(&Import {
            from: "log".into(),
            to: "log".into(),
            place: "log.rs:2".into()
        }));
    }
}
