//! Texts that are known at run time only where the rest of the program has them in its data segment.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{LazyLock, Mutex, PoisonError};

/// `text` for the rest of the process's life. Each distinct one is kept once, so what this costs is bounded by how
/// many names, columns and selectable fields all custom kinds have ever had, not by how often they change.
pub fn intern(text: &str) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    match texts.get(text) {
        Some(known) => known,
        None => {
            let kept: &'static str = Box::leak(text.into());
            texts.insert(kept);
            kept
        }
    }
}

/// As [`intern`], of a list: `ResourceDef::short_names`, `fields`, `verbs`.
pub fn intern_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> &'static [&'static str] {
    static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
    intern_list(&LISTS, texts.into_iter().map(intern).collect())
}

/// As [`intern`], of columns whose texts are interned.
pub fn intern_columns(columns: Vec<crate::Column>) -> &'static [crate::Column] {
    static LISTS: LazyLock<Mutex<HashSet<&'static [crate::Column]>>> = LazyLock::new(Mutex::default);
    intern_list(&LISTS, columns)
}

fn intern_list<T: Eq + Hash>(kept: &Mutex<HashSet<&'static [T]>>, list: Vec<T>) -> &'static [T] {
    let mut lists = kept.lock().unwrap_or_else(PoisonError::into_inner);
    match lists.get(list.as_slice()) {
        Some(known) => known,
        None => {
            let list: &'static [T] = list.leak();
            lists.insert(list);
            list
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_kept_once() {
        let one = intern(&String::from("spec.size"));
        assert!(std::ptr::eq(one, intern("spec.size")));
        let list = intern_texts(["a", "b"]);
        assert!(std::ptr::eq(list, intern_texts(["a", "b"])));
        assert_ne!(list, intern_texts(["b", "a"]));
    }
}
