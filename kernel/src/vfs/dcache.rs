//! The dentry cache's index: a bounded map from (directory, name) to what is there, oldest
//! unused entries going first. Pure; `dentry` wraps shards of it in locks.

use alloc::vec::Vec;
use hashbrown::HashTable;

/// Not an index.
const NIL: u32 = u32::MAX;

struct Node<V> {
    hash: u64,
    dir: u64,
    name: Vec<u8>,
    value: Option<V>,
    /// Bytes of memory that go with the value.
    weight: u32,
    /// Neighbours in order of use; `next` also chains free nodes.
    prev: u32,
    next: u32,
}

/// A map from (directory id, name) to `V` that knows the order of use.
pub struct LruMap<V> {
    table: HashTable<u32>,
    nodes: Vec<Node<V>>,
    free: u32,
    /// Most recently used.
    head: u32,
    /// Least recently used.
    tail: u32,
    /// Sum of the entries' weights and names.
    weight: usize,
}

impl<V> Default for LruMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> LruMap<V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self {
            table: HashTable::new(),
            nodes: Vec::new(),
            free: NIL,
            head: NIL,
            tail: NIL,
            weight: 0,
        }
    }
    /// Bytes of memory that the entries take up.
    pub fn bytes(&self) -> usize {
        self.weight + self.len() * size_of::<Node<V>>()
    }
    /// Entries.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn find(&self, hash: u64, dir: u64, name: &[u8]) -> Option<u32> {
        self.table
            .find(hash, |&i| {
                let node = &self.nodes[i as usize];
                node.dir == dir && node.name == name
            })
            .copied()
    }

    /// The entry, which becomes the most recently used.
    pub fn get(&mut self, hash: u64, dir: u64, name: &[u8]) -> Option<&V> {
        let i = self.find(hash, dir, name)?;
        if self.head != i {
            self.detach(i);
            self.attach_front(i);
        }
        self.nodes[i as usize].value.as_ref()
    }

    /// Sets an entry, with which so many bytes go; returns what was there.
    pub fn insert(&mut self, hash: u64, dir: u64, name: &[u8], value: V, weight: u32) -> Option<V> {
        if let Some(i) = self.find(hash, dir, name) {
            let node = &mut self.nodes[i as usize];
            self.weight += weight as usize;
            self.weight -= core::mem::replace(&mut node.weight, weight) as usize;
            return node.value.replace(value);
        }
        self.weight += name.len() + weight as usize;
        let node = Node {
            hash,
            dir,
            name: name.to_vec(),
            value: Some(value),
            weight,
            prev: NIL,
            next: NIL,
        };
        let i = if self.free == NIL {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let i = self.free;
            self.free = self.nodes[i as usize].next;
            self.nodes[i as usize] = node;
            i
        };
        let nodes = &self.nodes;
        self.table
            .insert_unique(hash, i, |&j| nodes[j as usize].hash);
        self.attach_front(i);
        None
    }

    /// Removes an entry.
    pub fn remove(&mut self, hash: u64, dir: u64, name: &[u8]) -> Option<V> {
        let i = self.find(hash, dir, name)?;
        self.take(i)
    }

    /// Removes up to `count` of the oldest entries that `may_go`, looking at `scan` at most;
    /// those that may not are moved to the front.
    pub fn evict(
        &mut self,
        count: usize,
        scan: usize,
        mut may_go: impl FnMut(&V) -> bool,
        out: &mut Vec<V>,
    ) {
        for _ in 0..scan {
            let i = self.tail;
            if i == NIL || out.len() >= count {
                return;
            }
            let goes = self.nodes[i as usize]
                .value
                .as_ref()
                .is_none_or(&mut may_go);
            if goes {
                out.extend(self.take(i));
            } else {
                self.detach(i);
                self.attach_front(i);
            }
        }
    }

    /// Removes every entry that `wanted`.
    pub fn drain_if(&mut self, mut wanted: impl FnMut(&V) -> bool, out: &mut Vec<V>) {
        let mut i = self.head;
        while i != NIL {
            let next = self.nodes[i as usize].next;
            if self.nodes[i as usize]
                .value
                .as_ref()
                .is_some_and(&mut wanted)
            {
                out.extend(self.take(i));
            }
            i = next;
        }
    }

    /// Gives back room that a larger number of entries had, as far as it is at the end.
    pub fn shrink_to_fit(&mut self) {
        while self.nodes.last().is_some_and(|n| n.value.is_none()) {
            self.nodes.pop();
        }
        self.nodes.shrink_to_fit();
        self.free = NIL;
        for (i, node) in self.nodes.iter_mut().enumerate() {
            if node.value.is_none() {
                node.next = self.free;
                self.free = i as u32;
            }
        }
        let nodes = &self.nodes;
        self.table.shrink_to_fit(|&i| nodes[i as usize].hash);
    }

    fn take(&mut self, i: u32) -> Option<V> {
        let hash = self.nodes[i as usize].hash;
        if let Ok(entry) = self.table.find_entry(hash, |&j| j == i) {
            entry.remove();
        }
        self.detach(i);
        let node = &mut self.nodes[i as usize];
        self.weight -= node.name.len() + node.weight as usize;
        node.name = Vec::new();
        node.next = self.free;
        self.free = i;
        node.value.take()
    }

    fn detach(&mut self, i: u32) {
        let (prev, next) = (self.nodes[i as usize].prev, self.nodes[i as usize].next);
        match prev {
            NIL => self.head = next,
            p => self.nodes[p as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            n => self.nodes[n as usize].prev = prev,
        }
    }

    fn attach_front(&mut self, i: u32) {
        let old = self.head;
        self.nodes[i as usize].prev = NIL;
        self.nodes[i as usize].next = old;
        match old {
            NIL => self.tail = i,
            o => self.nodes[o as usize].prev = i,
        }
        self.head = i;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_replaces_and_removes() {
        let mut map = LruMap::new();
        assert_eq!(map.insert(1, 7, b"a", 10, 5), None);
        assert_eq!(map.insert(1, 7, b"b", 11, 5), None);
        assert_eq!(map.insert(1, 8, b"a", 12, 5), None);
        assert_eq!(map.get(1, 7, b"a"), Some(&10));
        assert_eq!(map.insert(1, 7, b"a", 13, 5), Some(10));
        assert_eq!(map.remove(1, 7, b"a"), Some(13));
        assert_eq!(map.get(1, 7, b"a"), None);
        assert_eq!(map.get(1, 8, b"a"), Some(&12));
        assert_eq!(map.len(), 2);
        assert_eq!(map.weight, 2 * (1 + 5));
        map.insert(1, 7, b"b", 14, 0);
        map.insert(1, 7, b"long", 15, 100);
        assert_eq!(map.weight, 6 + 1 + 104);
        map.drain_if(|_| true, &mut Vec::new());
        assert_eq!((map.weight, map.bytes()), (0, 0));
    }

    #[test]
    fn evicts_oldest_that_may_go() {
        let mut map = LruMap::new();
        for n in 0..10u64 {
            map.insert(n, n, b"x", n, 5);
        }
        map.get(0, 0, b"x");
        let mut out = Vec::new();
        map.evict(3, 10, |v| *v != 2, &mut out);
        assert_eq!(out, [1, 3, 4]);
        assert_eq!(map.get(2, 2, b"x"), Some(&2));
        assert_eq!(map.len(), 7);
        let mut out = Vec::new();
        map.drain_if(|v| v % 2 == 0, &mut out);
        out.sort();
        assert_eq!(out, [0, 2, 6, 8]);
        map.insert(77, 1, b"y", 77, 5);
        assert_eq!(map.get(77, 1, b"y"), Some(&77));
        map.shrink_to_fit();
        assert_eq!(map.nodes.len(), 10);
        map.remove(9, 9, b"x");
        map.shrink_to_fit();
        assert_eq!(map.nodes.len(), 8);
        for n in 100..110 {
            assert_eq!(map.insert(n, n, b"z", n, 5), None);
        }
        assert_eq!(map.nodes.len(), map.len());
        assert_eq!(map.get(77, 1, b"y"), Some(&77));
        assert_eq!(map.get(5, 5, b"x"), Some(&5));
    }
}
