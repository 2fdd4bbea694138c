//! What an instance holds at most.

use super::*;
use crate::vfs::Rename;

const FILE: NewNode = NewNode {
    mode: abi::S_IFREG | 0o644,
    uid: 0,
    gid: 0,
    rdev: Dev { major: 0, minor: 0 },
};

fn instance(max_pages: u64, max_inodes: u64) -> Arc<MemSuper> {
    let mut options = Options::new(1024);
    options.max_pages = max_pages;
    options.max_inodes = max_inodes;
    MemSuper::new(&options).unwrap()
}

fn free(fs: &MemSuper) -> (u64, u64) {
    let stat = fs.statfs().unwrap();
    (stat.free, stat.files_free)
}

#[test]
fn every_name_counts() {
    let fs = instance(8, 5);
    let root = fs.root_inode();
    let file = root.add(b"file", &FILE, None).unwrap();
    root.link(b"second", &*file).unwrap();
    root.link(b"third", &*file).unwrap();
    let other = root.add(b"other", &FILE, None).unwrap();
    assert_eq!(free(&fs), (8, 0));
    assert_eq!(root.link(b"fourth", &*file), Err(Errno::ENOSPC));
    assert!(root.add(b"fourth", &FILE, None).is_err());
    root.unlink(b"second", &*file).unwrap();
    assert_eq!(free(&fs), (8, 1));
    // What takes the place of a name frees it.
    let what = Rename {
        name: b"other",
        source: &*other,
        new_dir: &**root,
        new_name: b"third",
        target: Some(&*file),
        cross: false,
        exchange: false,
    };
    root.rename(&what).unwrap();
    assert_eq!(free(&fs), (8, 2));
    // The last name of an open file counts until it is closed.
    root.unlink(b"file", &*file).unwrap();
    assert_eq!(free(&fs), (8, 2));
    drop(file);
    assert_eq!(free(&fs), (8, 3));
}

#[test]
fn long_texts_of_links_count_as_pages() {
    let fs = instance(2, 100);
    let root = fs.root_inode();
    let mode = abi::S_IFLNK | 0o777;
    let node = NewNode { mode, ..FILE };
    let link = |name: &[u8], len| root.add(name, &node, Some(&vec![b'x'; len]));
    drop(link(b"short", 127).unwrap());
    assert_eq!(free(&fs), (2, 98));
    let long = link(b"a", 128).unwrap();
    assert_eq!(long.attr().unwrap().blocks, 8);
    drop(link(b"b", 4095).unwrap());
    assert_eq!(link(b"c", 128).err(), Some(Errno::ENOSPC));
    assert_eq!(free(&fs), (0, 96));
    root.unlink(b"a", &*long).unwrap();
    drop(long);
    assert_eq!(free(&fs), (1, 97));
}
