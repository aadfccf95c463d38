from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, MissingFilesError
from birdsearch.indexer.catalog.records import FoundFile
from birdsearch.indexer.crawl import CrawlItem, CrawlProblem, IgnoredFile, crawl


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def items(root: Path, *, follow_links: bool = False, excluded: tuple[bytes, ...] = ()) -> list[CrawlItem]:
    return list(crawl(os.fsencode(root), follow_links=follow_links, excluded=excluded))


def found(root: Path, *, follow_links: bool = False, excluded: tuple[bytes, ...] = ()) -> list[bytes]:
    everything = items(root, follow_links=follow_links, excluded=excluded)
    return [item.path for item in everything if isinstance(item, FoundFile)]


def problems(root: Path, *, follow_links: bool = False) -> list[tuple[bytes, str, bool]]:
    everything = items(root, follow_links=follow_links)
    return [(item.path, item.code, item.is_folder) for item in everything if isinstance(item, CrawlProblem)]


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Run as a user that permissions apply to."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user reaches, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# What is found


def test_photos_are_found_with_their_status_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b/z.jpg", "b/a/1.png", "a.JPEG", "c.Tiff", "B.jpg", "b.heic", "b/x.NEF"):
        touch(tmp_path / name, name.encode())
    everything = items(tmp_path)
    paths = [item.path for item in everything]
    assert paths == [b"B.jpg", b"a.JPEG", b"b.heic", b"c.Tiff", b"b/x.NEF", b"b/z.jpg", b"b/a/1.png"]
    assert everything == items(tmp_path)
    status = (tmp_path / "b/z.jpg").stat()
    assert everything[5] == FoundFile(
        b"b/z.jpg", 7, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino
    )


def test_other_files_are_counted_and_unread_pictures_are_found(tmp_path: Path) -> None:
    for name in ("a.txt", "b", "c.tar.GZ", "d.jp2", "e.psd", "f.jpg.xmp"):
        touch(tmp_path / name)
    assert items(tmp_path)[:3] == [
        IgnoredFile(b"a.txt", ".txt"),
        IgnoredFile(b"b", ""),
        IgnoredFile(b"c.tar.GZ", ".gz"),
    ]
    assert found(tmp_path) == [b"d.jp2", b"e.psd"]


def test_a_folder_named_like_a_picture_is_entered(tmp_path: Path) -> None:
    touch(tmp_path / "x.jpg" / "y.jpg")
    assert found(tmp_path) == [b"x.jpg/y.jpg"]
    assert problems(tmp_path) == []


def test_names_of_any_bytes_are_found(tmp_path: Path) -> None:
    names = [
        b"caf\xe9.jpg",
        "café.jpg".encode(),
        "cafe\u0301.jpg".encode(),
        b"two\nlines.jpg",
        b"\x1b[31mred\x7f.jpg",
        b"=cmd().jpg",
        b"<b>bold<b>.jpg",
        b" .jpg",
        "\u202egpj.exe.jpg".encode(),
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    assert found(tmp_path) == sorted(names)


def test_a_deep_tree_is_walked_without_recursion(tmp_path: Path) -> None:
    depth = 200
    touch(tmp_path.joinpath(*["d"] * depth, "a.jpg"))
    used, frame = 0, sys._getframe()
    while frame.f_back is not None:
        used, frame = used + 1, frame.f_back
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(used + 60)
    try:
        paths = found(tmp_path)
    finally:
        sys.setrecursionlimit(before)
    assert paths == [b"d/" * depth + b"a.jpg"]


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    for folder in range(40):
        for file in range(50):
            touch(tmp_path / f"{folder:03}" / f"{file:03}.jpg", b"")
    peaks = []
    for part in (tmp_path / "000", tmp_path):
        tracemalloc.start()
        for _ in crawl(os.fsencode(part)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3 * peaks[0]


def test_two_paths_to_one_file_have_one_inode(tmp_path: Path) -> None:
    os.link(touch(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to("a.jpg")
    everything = [item for item in items(tmp_path) if isinstance(item, FoundFile)]
    assert [item.path for item in everything] == [b"a.jpg", b"b.jpg", b"c.jpg"]
    assert len({(item.device, item.inode) for item in everything}) == 1


# Links


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_to_itself_and_to_parents_end(tmp_path: Path, follow_links: bool) -> None:
    root = tmp_path / "root"
    touch(root / "a" / "1.jpg")
    (root / "a" / "self").symlink_to(".")
    (root / "a" / "up").symlink_to("..")
    (root / "twin").symlink_to("a")
    assert found(root, follow_links=follow_links) == [b"a/1.jpg"]
    assert problems(root, follow_links=follow_links) == []


def test_a_link_that_leads_to_itself_is_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("a.jpg")
    assert problems(tmp_path) == [(b"a.jpg", "broken-link", False)]


def test_links_out_of_the_root_are_followed_only_if_asked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "in.jpg")
    touch(tmp_path / "out" / "1.jpg")
    touch(tmp_path / "out" / "sub" / "2.jpg")
    touch(tmp_path / "root2" / "3.jpg")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "again").symlink_to(tmp_path / "out")
    (root / "near").symlink_to(tmp_path / "root2")
    (root / "file.jpg").symlink_to(tmp_path / "out" / "1.jpg")
    (root / "notes.txt").symlink_to(tmp_path / "out" / "1.jpg")
    assert found(root) == [b"in.jpg"]
    assert problems(root) == [
        (b"again", "link-out-of-root", True),
        (b"file.jpg", "link-out-of-root", False),
        (b"folder", "link-out-of-root", True),
        (b"near", "link-out-of-root", True),
    ]
    followed = [b"file.jpg", b"in.jpg", b"again/1.jpg", b"again/sub/2.jpg", b"near/3.jpg"]
    assert found(root, follow_links=True) == followed
    assert problems(root, follow_links=True) == []


def test_a_photo_has_its_real_path_even_if_a_link_comes_first(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "z" / "1.jpg")
    (root / "a").symlink_to("z")
    assert found(root, follow_links=True) == [b"z/1.jpg"]


def test_a_root_that_is_itself_a_link_is_crawled(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "1.jpg")
    (tmp_path / "real" / "2.jpg").symlink_to("1.jpg")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == [b"1.jpg", b"2.jpg"]


def test_broken_links_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "disk").symlink_to("/nowhere/at/all")
    (tmp_path / "a.txt").symlink_to("nowhere.txt")
    # What a link without a suffix led to may have been a folder of photos.
    assert problems(tmp_path) == [(b"a.jpg", "broken-link", False), (b"disk", "broken-link", True)]


# What is no file


def test_special_files_are_reported_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A socket's path must be short.
    monkeypatch.chdir(tmp_path)
    os.mkfifo("a.jpg")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("b.png")
        (tmp_path / "c.jpg").symlink_to("a.jpg")
        expected = [(name, "not-a-file", False) for name in (b"a.jpg", b"b.png", b"c.jpg")]
        assert problems(tmp_path) == expected
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):
            os.mknod("d.jpg", 0o600 | 0o020000, os.makedev(1, 5))
            assert (b"d.jpg", "not-a-file", False) in problems(tmp_path)


# What cannot be looked at


def test_an_unreadable_folder_is_reported_as_a_folder(public_folder: Path) -> None:
    touch(public_folder / "a" / "1.jpg")
    touch(public_folder / "b" / "2.jpg")
    (public_folder / "a").chmod(0)
    with without_privileges():
        assert problems(public_folder) == [(b"a", "unreadable", True)]
        assert found(public_folder) == [b"b/2.jpg"]
    (public_folder / "a").chmod(0o700)


def test_a_folder_that_lists_but_cannot_be_entered_is_reported(public_folder: Path) -> None:
    touch(public_folder / "a" / "1.jpg")
    (public_folder / "a").chmod(0o444)
    with without_privileges():
        assert problems(public_folder) == [(b"a/1.jpg", "unreadable", False)]
    (public_folder / "a").chmod(0o700)


def test_an_unreadable_file_is_found_as_its_reading_is_what_fails(public_folder: Path) -> None:
    touch(public_folder / "1.jpg").chmod(0)
    with without_privileges():
        assert found(public_folder) == [b"1.jpg"]


def test_an_unreadable_ignore_file_leaves_the_folder_unknown(public_folder: Path) -> None:
    touch(public_folder / "a" / "1.jpg")
    touch(public_folder / "a" / ".birdsearchignore", b"*.png\n").chmod(0)
    with without_privileges():
        assert (b"a", "unreadable", True) in problems(public_folder)
        assert found(public_folder) == []


def test_a_missing_root_is_an_error_before_the_first_item(tmp_path: Path) -> None:
    with pytest.raises(MissingFilesError, match="no such folder"):
        crawl(os.fsencode(tmp_path / "gone"))
    with pytest.raises(MissingFilesError, match="not a folder"):
        crawl(os.fsencode(touch(tmp_path / "file.jpg")))


def test_an_unreadable_root_is_an_error(public_folder: Path) -> None:
    root = public_folder / "root"
    root.mkdir(0)
    with without_privileges(), pytest.raises(MissingFilesError, match="cannot be listed"):
        crawl(os.fsencode(root))


# What is left out


@pytest.mark.parametrize(
    "folder",
    [
        ".thumbnails",
        ".Trash-1000",
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "__MACOSX",
        "Catalog Previews.lrdata",
        "My.photoslibrary/resources/derivatives",
    ],
)
def test_hidden_and_vendor_folders_are_left_out(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / folder / "sub" / "1.jpg")
    touch(tmp_path / "kept" / folder / "2.jpg")
    touch(tmp_path / "kept" / "3.jpg")
    assert [item.path for item in items(tmp_path)] == [b"kept/3.jpg"]


def test_the_originals_of_a_photo_library_are_found(tmp_path: Path) -> None:
    for name in ("originals/A/1.heic", "resources/1.jpg", "Masters/resources/2.jpg", "3.jpg"):
        touch(tmp_path / "My.photoslibrary" / name)
    assert found(tmp_path) == [
        b"My.photoslibrary/Masters/resources/2.jpg",
        b"My.photoslibrary/originals/A/1.heic",
    ]


def test_hidden_files_and_apple_doubles_are_left_out(tmp_path: Path) -> None:
    for name in ("._1.jpg", ".hidden.jpg", "1.jpg"):
        touch(tmp_path / name)
    assert [item.path for item in items(tmp_path)] == [b"1.jpg"]


@pytest.mark.parametrize("content", [b"", b" \r\n\n"])
def test_an_empty_ignore_file_leaves_out_the_folder_and_all_below(tmp_path: Path, content: bytes) -> None:
    touch(tmp_path / "a" / ".birdsearchignore", content)
    touch(tmp_path / "a" / "b" / "1.jpg")
    touch(tmp_path / "2.jpg")
    assert found(tmp_path) == [b"2.jpg"]


def test_the_patterns_of_an_ignore_file_hold_below_it(tmp_path: Path) -> None:
    touch(tmp_path / "a" / ".birdsearchignore", b"# exports\r\n*_small.jpg\r\n\r\nexport/\nraw?\n")
    touch(tmp_path / "a" / "b" / ".birdsearchignore", b"x*\n")
    for name in (
        *("a/1.jpg", "a/1_small.jpg", "a/b/2_small.jpg", "a/b/2.jpg", "a/b/x3.jpg", "a/x4.jpg"),
        *("a/b/export/5.jpg", "a/raw1/6.jpg", "a/raw12/7.jpg", "export/8.jpg", "9_small.jpg"),
    ):
        touch(tmp_path / name)
    touch(tmp_path / "a" / "export.jpg")
    assert found(tmp_path) == [
        *(b"9_small.jpg", b"a/1.jpg", b"a/export.jpg", b"a/x4.jpg", b"a/b/2.jpg", b"a/raw12/7.jpg"),
        b"export/8.jpg",
    ]


def test_comments_alone_leave_nothing_out(tmp_path: Path) -> None:
    touch(tmp_path / ".birdsearchignore", b"# *.jpg\n")
    touch(tmp_path / "1.jpg")
    assert found(tmp_path) == [b"1.jpg"]


def test_a_catalog_inside_the_archive_is_not_crawled(tmp_path: Path) -> None:
    touch(tmp_path / "catalog" / "birdsearch.sqlite")
    touch(tmp_path / "catalog" / "thumb.jpg")
    touch(tmp_path / "1.jpg")
    assert found(tmp_path) == [b"1.jpg"]


def test_a_root_that_is_a_catalog_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "birdsearch.sqlite")
    with pytest.raises(InvalidInputError, match="is a birdsearch catalog"):
        crawl(os.fsencode(tmp_path))


def test_excluded_folders_are_left_out_by_any_of_their_paths(tmp_path: Path) -> None:
    touch(tmp_path / "root" / "inner" / "1.jpg")
    touch(tmp_path / "root" / "2.jpg")
    (tmp_path / "alias").symlink_to("root/inner")
    for name in ("root/inner", "alias", "root/../root/inner"):
        assert found(tmp_path / "root", excluded=(os.fsencode(tmp_path / name),)) == [b"2.jpg"]
    assert len(found(tmp_path / "root", excluded=(b"/no/such/folder",))) == 2


# Names for people


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a/b c.jpg", "a/b c.jpg"),
        ("vögel/鳥\u3000🦜.jpg".encode(), "vögel/鳥\u3000🦜.jpg"),
        (b"caf\xe9.jpg", "caf\\xe9.jpg"),
        (b"a\nb\tc\x1b[31m\x7f.jpg", "a\\nb\\tc\\x1b[31m\\x7f.jpg"),
        ("a\u202egpj.exe\u2028\u200f\x85.jpg".encode(), "a\\u202egpj.exe\\u2028\\u200f\\x85.jpg"),
        (b"\xed\xa0\x80.jpg", "\\xed\\xa0\\x80.jpg"),
        ("\U000e0041.jpg".encode(), "\\U000e0041.jpg"),
    ],
)
def test_a_path_is_shown_without_what_a_terminal_would_obey(path: bytes, expected: str) -> None:
    assert display_path(path) == expected
    assert display_path(path).encode()
