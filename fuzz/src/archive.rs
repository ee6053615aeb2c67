//! tar and gzip files, byte by byte: nothing that a real tool would refuse to
//! make is out of reach.

use std::io::Write;

use flate2::{Compress, Compression, FlushCompress, GzBuilder};

use super::random::Random;

/// Bytes of a tar block.
pub const BLOCK: usize = 512;

/// A tar archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// What a header says.
#[derive(Clone, Debug)]
pub struct Head {
    /// At most 100 bytes.
    pub name: Vec<u8>,
    /// At most 100 bytes.
    pub link: Vec<u8>,
    /// What kind of entry.
    pub typeflag: u8,
    /// The size field.
    pub size: u64,
}

impl Head {
    /// An entry of this type and name, without content.
    pub fn new(typeflag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            typeflag,
            size: 0,
        }
    }

    /// The header block, with its checksum.
    pub fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, max: usize, bytes: &[u8]| {
            let len = bytes.len().min(max);
            block[at..at + len].copy_from_slice(&bytes[..len]);
        };
        put(0, 100, &self.name);
        let mode: &[u8] = if self.typeflag == b'5' {
            b"0000755\0"
        } else {
            b"0000644\0"
        };
        put(100, 8, mode);
        put(108, 8, b"0000000\0");
        put(116, 8, b"0000000\0");
        if self.size < 1 << 33 {
            put(124, 12, format!("{:011o}\0", self.size).as_bytes());
        } else {
            // Base 256, as GNU tar writes what octal digits cannot hold.
            put(124, 4, &[0x80, 0, 0, 0]);
            let mut size = self.size.to_le_bytes();
            size.reverse();
            put(128, 8, &size);
        }
        put(136, 12, b"14000000000\0");
        put(156, 1, &[self.typeflag]);
        put(157, 100, &self.link);
        put(257, 8, b"ustar\x0000");
        sign(&mut block);
        block
    }
}

/// Writes the checksum of a header block into it.
pub fn sign(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    /// Any block, right or wrong.
    pub fn block(mut self, block: &[u8]) -> Self {
        self.bytes.extend_from_slice(block);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// A header and as much content as there is; the size is what `head` says.
    pub fn entry(self, head: &Head, content: &[u8]) -> Self {
        self.block(&head.block()).block(content)
    }

    /// A regular file.
    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let size = content.len() as u64;
        let head = Head {
            size,
            ..Head::new(b'0', name)
        };
        self.entry(&head, content)
    }

    /// A directory.
    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(&Head::new(b'5', name), &[])
    }

    /// A link: `1` is a hard link, `2` a symbolic one.
    pub fn link(self, typeflag: u8, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        let head = Head {
            link: to.as_ref().to_vec(),
            ..Head::new(typeflag, name)
        };
        self.entry(&head, &[])
    }

    /// An extended header, `x` or `g`, of these records.
    pub fn pax(self, typeflag: u8, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        self.pax_raw(typeflag, &body)
    }

    /// An extended header of any content.
    pub fn pax_raw(self, typeflag: u8, body: &[u8]) -> Self {
        let head = Head {
            size: body.len() as u64,
            ..Head::new(typeflag, "PaxHeaders/x")
        };
        self.entry(&head, body)
    }

    /// A GNU long name (`L`) or link (`K`) for the next entry.
    pub fn long(self, typeflag: u8, text: &[u8]) -> Self {
        let mut body = text.to_vec();
        body.push(0);
        let head = Head {
            size: body.len() as u64,
            ..Head::new(typeflag, "././@LongLink")
        };
        self.entry(&head, &body)
    }

    /// The archive with its end marker.
    pub fn end(self) -> Vec<u8> {
        self.block(&[0; 2 * BLOCK]).bytes
    }

    /// The archive without an end marker.
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

/// A PAX record; its length counts itself.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len += 1;
    }
    let mut out = format!("{len} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

/// An image of about 300 KB with one of everything that has its own code:
/// contents of all densities, links, long names, attributes, many names.
pub fn image(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let noise = random.bytes(60_000);
    let text: Vec<u8> = (0..9000)
        .flat_map(|i: u32| format!("line {} of {}\n", i, i % 7).into_bytes())
        .collect();
    let mut tar = Tar::default()
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("etc/noise", &noise)
        .file("etc/empty", "")
        .dir("usr/")
        .dir("usr/lib/")
        .file("usr/lib/zeros", vec![0; 70_001])
        .file("usr/lib/text", &text[..100_000])
        .link(b'1', "usr/lib/hard", "etc/noise")
        .link(b'2', "usr/lib/soft", "../../etc/passwd")
        .link(b'2', "lib", "usr/lib")
        .file("lib/through-a-link", "in usr/lib")
        .entry(&Head::new(b'6', "fifo"), &[]);
    tar = tar.pax(
        b'x',
        &[
            ("mtime", b"1700000000.123456789"),
            ("SCHILY.xattr.user.name", b"value\0with\nbytes"),
            (
                "SCHILY.xattr.security.capability",
                &[
                    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ],
            ),
        ],
    );
    tar = tar.file("with-attributes", "attributed");
    let long = vec![b'n'; 200];
    tar = tar.long(b'L', &long).file("short", &noise[..5000]);
    tar = tar
        .long(b'K', &vec![b't'; 3000])
        .link(b'2', "far", "cut off");
    tar = tar.dir("many/");
    for number in 0..120 {
        let len = random.below(400);
        let content = random.bytes(len);
        tar = tar.file(format!("many/{number:03}"), content);
    }
    tar.end()
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// One member, as gzip makes it.
    Gzip,
    /// One member of blocks that are byte-aligned, as pigz makes it.
    Pigz,
    /// The same, of blocks that refer to nothing before them.
    Independent,
    /// Members of at most 64 KiB with an extra field, as bgzip makes it.
    Bgzip,
    /// Three members of any size and an empty one.
    Members,
}

impl Packing {
    /// All of them.
    pub const ALL: [Packing; 6] = [
        Packing::Plain,
        Packing::Gzip,
        Packing::Pigz,
        Packing::Independent,
        Packing::Bgzip,
        Packing::Members,
    ];

    /// `stream`, packed in this way.
    pub fn pack(self, stream: &[u8]) -> Vec<u8> {
        match self {
            Packing::Plain => stream.to_vec(),
            Packing::Gzip => gzip(stream, 6),
            Packing::Pigz => flushed(stream, 20_000, FlushCompress::Sync),
            Packing::Independent => flushed(stream, 20_000, FlushCompress::Full),
            Packing::Bgzip => {
                let pieces = stream.chunks(0xff00).chain([&[][..]]);
                pieces.flat_map(with_extra).collect()
            }
            Packing::Members => {
                let (a, b) = (stream.len() / 3, stream.len() / 2);
                let pieces = [&stream[..a], &[], &stream[a..b], &stream[b..]];
                pieces.iter().flat_map(|piece| gzip(piece, 9)).collect()
            }
        }
    }
}

/// One gzip member.
pub fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    let builder = GzBuilder::new().mtime(1_600_000_000);
    finish(builder.write(Vec::new(), Compression::new(level)), data)
}

fn with_extra(data: &[u8]) -> Vec<u8> {
    let builder = GzBuilder::new()
        .extra(vec![b'B', b'C', 2, 0, 0, 0])
        .filename("n")
        .comment("c");
    finish(builder.write(Vec::new(), Compression::new(6)), data)
}

fn finish(mut encoder: flate2::write::GzEncoder<Vec<u8>>, data: &[u8]) -> Vec<u8> {
    let written = encoder.write_all(data).and_then(|()| encoder.finish());
    written.unwrap_or_else(|error| panic!("cannot compress: {error}"))
}

fn flushed(data: &[u8], block: usize, flush: FlushCompress) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut deflate = Compress::new(Compression::new(6), false);
    let mut buf = Vec::with_capacity(2 * block + 1024);
    let pieces = data.chunks(block).map(|piece| (piece, flush));
    for (piece, flush) in pieces.chain([(&[][..], FlushCompress::Finish)]) {
        buf.clear();
        let done = deflate.compress_vec(piece, &mut buf, flush);
        done.unwrap_or_else(|error| panic!("cannot compress: {error}"));
        out.extend_from_slice(&buf);
    }
    out.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
    out
}
