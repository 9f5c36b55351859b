use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use tar::{Builder, EntryType, Header};

use super::*;

/// Layers in a directory of their own. Needs root, as unpacking does: owners, device nodes, trusted attributes.
struct Fixture {
    directory: tempfile::TempDir,
    layers: Layers,
    chain: Vec<ChainId>,
    diff_ids: Vec<String>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root, staging) = (directory.path().join("layers"), directory.path().join("staging"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&staging).unwrap();
        std::fs::write(directory.path().join("outside"), "untouched").unwrap();
        Self { layers: Layers::new(root, staging), directory, chain: vec![], diff_ids: vec![] }
    }

    /// Adds a layer on top of the ones before.
    fn add(&mut self, tar: &[u8]) -> Result<PathBuf, LayerError> {
        self.add_as(tar, &sha256(tar))
    }

    fn add_as(&mut self, blob: &[u8], diff_id: &str) -> Result<PathBuf, LayerError> {
        let mut diff_ids = self.diff_ids.clone();
        diff_ids.push(diff_id.to_owned());
        let chain = ChainId::of(&diff_ids).unwrap();
        let (top, below) = chain.split_last().unwrap();
        self.layers.add(blob, diff_id, top, below)?;
        let path = self.layers.path(top);
        (self.chain, self.diff_ids) = (chain, diff_ids);
        Ok(path)
    }

    fn assert_nothing_left(&self) {
        for name in ["layers", "staging"] {
            let left: Vec<_> = std::fs::read_dir(self.directory.path().join(name)).unwrap().collect();
            assert!(left.is_empty(), "{name}: {left:?}");
        }
        assert_eq!(std::fs::read_to_string(self.directory.path().join("outside")).unwrap(), "untouched");
    }
}

/// A tar archive that may say what no honest builder lets one say.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).unwrap_or(0);
    &value[..length] == b"y"
}

#[test]
fn entries_keep_owner_mode_time_and_kind() {
    let mut fixture = Fixture::new();
    let tar = Tar::default()
        .directory("./", 0o711)
        .directory("bin/", 0o755)
        .entry(EntryType::Regular, "bin/su", "", 0o4755, b"program")
        .hard_link("bin/su2", "bin/su")
        .link("bin/sh", "/bin/dash")
        .entry(EntryType::Char, "null", "", 0o666, b"")
        .entry(EntryType::Fifo, "pipe", "", 0o600, b"")
        .directory("tmp", 0o1777)
        .end();
    let layer = fixture.add(&tar).unwrap();
    let su = std::fs::metadata(layer.join("bin/su")).unwrap();
    assert_eq!((su.uid(), su.gid(), su.permissions().mode() & 0o7777), (7, 8, 0o4755));
    assert_eq!((su.mtime(), su.len()), (1_000_000_000, 7));
    assert_eq!(su.ino(), std::fs::metadata(layer.join("bin/su2")).unwrap().ino());
    assert_eq!(std::fs::read_link(layer.join("bin/sh")).unwrap(), Path::new("/bin/dash"));
    assert_eq!(std::fs::symlink_metadata(layer.join("bin/sh")).unwrap().uid(), 7);
    let null = std::fs::metadata(layer.join("null")).unwrap();
    assert_eq!((null.rdev(), null.permissions().mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(std::fs::metadata(layer.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::metadata(layer.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert_eq!(std::fs::metadata(&layer).unwrap().permissions().mode() & 0o7777, 0o711);
    // Children were made after it, and its time is still the archive's.
    assert_eq!(std::fs::metadata(layer.join("bin")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn extended_attributes_are_kept_but_not_overlays_own() {
    let mut fixture = Fixture::new();
    let mut builder = Builder::new(Vec::new());
    let pax: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.user.note", b"kept"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("mtime", b"1000000000.5"),
    ];
    builder.append_pax_extensions(pax).unwrap();
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    builder.append_data(&mut header, "dir", &b""[..]).unwrap();
    let layer = fixture.add(&builder.into_inner().unwrap()).unwrap();
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(layer.join("dir"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
    assert!(!is_opaque(&layer.join("dir")));
    assert_eq!(std::fs::metadata(layer.join("dir")).unwrap().mtime_nsec(), 500_000_000);
}

#[test]
fn whiteouts_become_overlays() {
    let mut fixture = Fixture::new();
    fixture.add(&Tar::default().file("etc/a", "1").file("etc/b", "2").file("var/x", "3").end()).unwrap();
    let tar = Tar::default()
        .file("etc/.wh.a", "")
        .directory("var", 0o700)
        .file("var/.wh..wh..opq", "")
        .file("var/y", "4")
        // A directory deleted and made anew shows nothing from below.
        .file(".wh.etc2", "")
        .file("etc2/new", "5")
        .file("srv/kept", "6")
        .file(".wh.srv", "")
        .end();
    let layer = fixture.add(&tar).unwrap();
    assert!(is_whiteout(&layer.join("etc/a")));
    assert!(!layer.join("etc/b").exists());
    assert!(is_opaque(&layer.join("var")) && layer.join("var/y").exists());
    assert!(is_opaque(&layer.join("etc2")) && layer.join("etc2/new").exists());
    assert!(is_opaque(&layer.join("srv")) && layer.join("srv/kept").exists());
    assert!(!is_opaque(&layer.join("etc")));
}

#[test]
fn unnamed_parents_look_as_they_do_below() {
    let mut fixture = Fixture::new();
    fixture.add(&Tar::default().directory("./", 0o751).directory("tmp", 0o1777).end()).unwrap();
    let layer = fixture.add(&Tar::default().file("tmp/a/b", "x").end()).unwrap();
    let tmp = std::fs::metadata(layer.join("tmp")).unwrap();
    assert_eq!((tmp.permissions().mode() & 0o7777, tmp.uid()), (0o1777, 7));
    assert_eq!(std::fs::metadata(&layer).unwrap().permissions().mode() & 0o7777, 0o751);
    assert_eq!(std::fs::metadata(layer.join("tmp/a")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut fixture = Fixture::new();
    let tar = Tar::default()
        .file("a", "old")
        .file("a", "new")
        .file("d/x", "1")
        .link("d", "/elsewhere")
        .file("f", "2")
        .directory("f", 0o755)
        .file("f/y", "3")
        .end();
    let layer = fixture.add(&tar).unwrap();
    assert_eq!(std::fs::read_to_string(layer.join("a")).unwrap(), "new");
    assert_eq!(std::fs::read_link(layer.join("d")).unwrap(), Path::new("/elsewhere"));
    assert_eq!(std::fs::read_to_string(layer.join("f/y")).unwrap(), "3");
}

#[test]
fn links_lead_nowhere_but_inside() {
    let mut fixture = Fixture::new();
    let outside = fixture.directory.path().join("outside");
    let outside = outside.to_str().unwrap();
    // Absolute names and links start at the layer's root, wherever they point.
    let tar = Tar::default()
        .file("/etc/x", "1")
        .link("abs", "/etc")
        .file("abs/y", "2")
        .link("up", "../../../../../etc")
        .file("up/z", "3")
        .end();
    let layer = fixture.add(&tar).unwrap();
    for name in ["x", "y", "z"] {
        assert!(layer.join("etc").join(name).is_file(), "{name}");
    }
    // Writing over a link replaces the link.
    let layer = fixture.add(&Tar::default().link("l", outside).file("l", "mine").end()).unwrap();
    assert_eq!(std::fs::read_to_string(layer.join("l")).unwrap(), "mine");
    assert!(layer.join("l").symlink_metadata().unwrap().is_file());
    // A hard link to a link links the link.
    let layer = fixture.add(&Tar::default().link("l", outside).hard_link("h", "l").end()).unwrap();
    assert!(layer.join("h").symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "untouched");
}

#[test]
fn hostile_entries_are_refused_and_leave_nothing() {
    let cases = [
        ("..", Tar::default().file("../../outside", "gotcha")),
        (".. within", Tar::default().file("a/../../outside", "gotcha")),
        ("whiteout of ..", Tar::default().file("a/.wh...", "")),
        ("whiteout of nothing", Tar::default().file("a/.wh.", "")),
        ("hard link ..", Tar::default().hard_link("h", "../../outside")),
        ("hard link to host", Tar::default().hard_link("h", "/etc/passwd")),
        ("hard link through link", Tar::default().link("l", "/etc").hard_link("h", "l/passwd")),
        ("hard link to the root", Tar::default().hard_link("h", "/")),
        ("parent is a dangling link", Tar::default().link("l", "/nowhere").file("l/x", "1")),
        ("parent is a file", Tar::default().file("f", "").file("f/x", "1")),
        ("root as a file", Tar::default().file("./", "1")),
        ("unknown type", Tar::default().entry(EntryType::new(b'Z'), "z", "", 0o644, b"")),
    ];
    for (what, tar) in cases {
        let mut fixture = Fixture::new();
        let error = fixture.add(&Tar::default().file("good", "1").end()).and_then(|good| {
            std::fs::remove_dir_all(good).unwrap();
            fixture.diff_ids.clear();
            fixture.add(&tar.end())
        });
        assert!(matches!(error, Err(LayerError::Hostile { .. } | LayerError::Write { .. })), "{what}: {error:?}");
        fixture.assert_nothing_left();
    }
}

#[test]
fn truncated_and_garbled_layers_leave_nothing() {
    let whole = Tar::default().file("a", &"x".repeat(5000)).file("b", "2").end();
    let digest = sha256(&whole);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &whole).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&whole[..], 1).unwrap();
    for (what, blob) in [
        ("in content", &whole[..3000]),
        ("between entries", &whole[..512 + 5120]),
        ("in a header", &whole[..512 + 5120 + 100]),
        ("end marker", &whole[..whole.len() - 1024]),
        ("nothing", &[]),
        ("gzip", &gzip[..gzip.len() - 9]),
        ("zstd", &zstd[..zstd.len() - 5]),
        ("no archive", &[b'x'; 2048]),
    ] {
        let mut fixture = Fixture::new();
        let error = fixture.add_as(blob, &digest).unwrap_err();
        assert!(matches!(error, LayerError::Read(_) | LayerError::Digest { .. }), "{what}: {error:?}");
        fixture.assert_nothing_left();
    }
    for blob in [&whole, &gzip, &zstd] {
        let layer = Fixture::new().add_as(blob, &digest);
        assert!(layer.is_ok());
    }
}

#[test]
fn other_content_than_the_digest_says_is_refused() {
    let mut fixture = Fixture::new();
    let error = fixture.add_as(&Tar::default().file("a", "1").end(), &sha256(b"something else")).unwrap_err();
    assert!(matches!(error, LayerError::Digest { .. }), "{error:?}");
    fixture.assert_nothing_left();
}

#[test]
fn bombs_stop_at_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 100_000, entries: 10 };
    let mut tree = tree::Tree::open(directory.path(), &[]).unwrap();
    let bomb = Tar::default().file("a", &"0".repeat(70_000)).file("b", &"0".repeat(70_000)).end();
    let error = apply::apply(&bomb[..], &mut tree, &limits).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { limit: 100_000, .. }), "{error:?}");
    let many = (0..20).fold(Tar::default(), |tar, number| tar.file(&format!("{number}"), "")).end();
    let error = apply::apply(&many[..], &mut tree, &limits).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { limit: 10, .. }), "{error:?}");
}

#[test]
fn chains_are_those_of_the_specification() {
    let ids: Vec<String> = [b"a", b"b"].iter().map(|text| sha256(&text[..])).collect();
    let chains = ChainId::of(&ids).unwrap();
    assert_eq!(chains[0].0, ids[0]);
    assert_eq!(chains[1].0, sha256(format!("{} {}", ids[0], ids[1]).as_bytes()));
    for bad in ["sha256:../../../../etc", "", "sha256:FF", "md5:00"] {
        assert!(ChainId::of(&[bad.to_owned()]).is_none(), "{bad}");
    }
}
