//! The layers of the kernel, and what offends against them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::imports::Import;

/// The layers, lowest first. The one table: a new module of the kernel gets a place here.
const LAYERS: [&[&str]; 11] = [
    &["arch", "abi", "cmdline", "error", "log", "screen"],
    &["sync", "mm"],
    &["time", "sched", "power", "uts"],
    &["vm"],
    &["security", "file"],
    &["block", "vfs", "net"],
    &["process"],
    &["tty"],
    &["drivers", "filesystems"],
    &["syscall", "trap"],
    &["init", "main"],
];

/// The layer of plug-ins, which register behind traits of lower layers: only layer [`BOOT`] names them.
const PLUG_INS: usize = 8;
/// The layer that puts the system together.
const BOOT: usize = 10;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// An import that the layers do not allow.
#[derive(Debug, PartialEq, Eq)]
pub struct Offence {
    /// `file:line` of the import.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Finds what offends in the imports of a whole crate. The crate root (`lib`) may name everything: it is the map.
pub fn offences(imports: &[Import]) -> Vec<Offence> {
    let mut found = Vec::new();
    // Edges between different modules of one layer, with their first place.
    let mut level: BTreeMap<&str, BTreeMap<&str, &Import>> = BTreeMap::new();
    for import in imports {
        let (from, to) = (import.from.as_str(), import.to.as_str());
        if from == "lib" || from == to {
            continue;
        }
        let mut offend = |what: String| {
            found.push(Offence {
                place: import.place.clone(),
                what,
            })
        };
        match (layer(from), layer(to)) {
            (None, _) => offend(format!("module `{from}` has no layer")),
            (_, None) => offend(format!("`{to}` is no module with a layer")),
            (Some(low), Some(high)) if low < high => {
                offend(format!(
                    "`{from}` (layer {low}) imports from `{to}` (layer {high})"
                ));
            }
            (Some(above), Some(PLUG_INS)) if above != PLUG_INS && above != BOOT => {
                offend(format!(
                    "`{from}` names the plug-ins of `{to}`; only `init` does"
                ));
            }
            (Some(a), Some(b)) if a == b => {
                level.entry(from).or_default().entry(to).or_insert(import);
            }
            _ => {}
        }
    }
    for (from, targets) in &level {
        for (to, import) in targets {
            if reaches(&level, to, from) {
                found.push(Offence {
                    place: import.place.clone(),
                    what: format!("`{from}` imports from `{to}`, which imports from `{from}`: a cycle in one layer"),
                });
            }
        }
    }
    found.sort_by(|a, b| a.place.cmp(&b.place));
    found
}

/// Can one get from module `start` to module `goal` along the edges?
fn reaches(edges: &BTreeMap<&str, BTreeMap<&str, &Import>>, start: &str, goal: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        if module == goal {
            return true;
        }
        if seen.insert(module)
            && let Some(targets) = edges.get(module)
        {
            open.extend(targets.keys());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(from: &str, to: &str) -> Import {
        Import {
            from: from.into(),
            to: to.into(),
            place: format!("{from}.rs:1"),
        }
    }

    fn texts(imports: &[Import]) -> Vec<String> {
        offences(imports).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn downward_and_own_imports_are_fine() {
        assert!(
            texts(&[
                import("vm", "mm"),
                import("init", "drivers"),
                import("mm", "mm"),
                import("lib", "init")
            ])
            .is_empty()
        );
    }

    #[test]
    fn upward_import_offends() {
        assert_eq!(
            texts(&[import("mm", "vm")]),
            ["mm.rs:1: `mm` (layer 1) imports from `vm` (layer 3)"]
        );
    }

    #[test]
    fn one_direction_within_a_layer_is_fine_and_a_cycle_offends() {
        let one = [import("mm", "sync")];
        assert!(texts(&one).is_empty());
        let both = [import("mm", "sync"), import("sync", "mm")];
        assert_eq!(texts(&both).len(), 2);
        // Over three modules, too; a module that only leads to the cycle is innocent.
        let three = [
            import("arch", "log"),
            import("log", "error"),
            import("error", "log"),
            import("abi", "arch"),
        ];
        assert_eq!(
            offences(&three)
                .iter()
                .map(|offence| offence.place.as_str())
                .collect::<Vec<_>>(),
            ["error.rs:1", "log.rs:1"]
        );
    }

    #[test]
    fn only_the_boot_layer_names_plug_ins() {
        assert_eq!(texts(&[import("syscall", "drivers")]).len(), 1);
        assert!(texts(&[import("drivers", "filesystems")]).is_empty());
    }

    #[test]
    fn unknown_modules_offend() {
        assert_eq!(
            texts(&[import("misc", "mm"), import("mm", "misc")]).len(),
            2
        );
    }
}
