//! Reading a trace.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::frame::{
    Cursor, FRAME_HEADER_BYTES, HEADER_BYTES, Kind, MAGIC, PAYLOAD_BYTES_MAX, VERSION, checksum,
};
use super::record::{Before, Read};
use super::{Origin, SpanStart, Totals, TraceError, TracedImage};

/// More images than are recorded together. Each takes memory, and little of a file.
const IMAGES_MAX: usize = 10_000;

/// A trace in memory, as it is in its file: small enough for traces of 10⁷ reads,
/// and each pass over it decodes it again.
#[derive(Clone, Debug)]
pub struct Trace {
    origin: Origin,
    images: Vec<TracedImage>,
    payloads: Vec<Arc<[u8]>>,
    totals: Totals,
    is_whole: bool,
}

impl Trace {
    /// Reads a trace. One that was cut off is an error unless `partial`: then it is
    /// what was whole of it.
    pub fn open(path: &Path, partial: bool) -> Result<Trace, TraceError> {
        Self::from_reader(
            BufReader::with_capacity(1 << 20, File::open(path)?),
            partial,
        )
    }

    /// The same, from anywhere.
    pub fn from_reader(from: impl std::io::Read, partial: bool) -> Result<Trace, TraceError> {
        let mut frames = Frames::begin(from)?;
        let mut trace = Trace {
            origin: Origin::default(),
            images: Vec::new(),
            payloads: Vec::new(),
            totals: Totals::default(),
            is_whole: false,
        };
        let mut is_first = true;
        loop {
            let at = frames.at;
            let damaged = |what| TraceError::Damaged { at, what };
            let Some((kind, payload)) = frames.next()? else {
                if partial {
                    return Ok(trace);
                }
                let records = trace.totals.records;
                return Err(TraceError::Truncated {
                    records,
                    at: frames.at,
                });
            };
            if is_first != (kind == Kind::Origin) {
                return Err(damaged("its parts are not in order"));
            }
            is_first = false;
            match kind {
                Kind::Origin => {
                    trace.origin = serde_json::from_slice(&payload)
                        .map_err(|_| damaged("where it comes from cannot be read"))?;
                }
                Kind::Image => {
                    let (number, image) = decoded_image(&payload).map_err(damaged)?;
                    if number != trace.images.len() as u64 {
                        return Err(damaged("its images are not in order"));
                    }
                    if trace.images.len() == IMAGES_MAX {
                        return Err(damaged("it has too many images"));
                    }
                    trace.images.push(image);
                }
                Kind::Reads => {
                    trace.totals.records +=
                        check(&payload, &trace.images, &mut trace.totals).map_err(damaged)?;
                    trace.payloads.push(payload.into());
                }
                Kind::End => {
                    let totals = totals(&payload).map_err(damaged)?;
                    if totals.records != trace.totals.records {
                        return Err(damaged("it holds another number of records than it says"));
                    }
                    trace.totals = totals;
                    trace.is_whole = true;
                    if frames.has_more()? {
                        return Err(damaged("more follows behind its end"));
                    }
                    return Ok(trace);
                }
            }
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The images that are read; reads name them by their place here.
    pub fn images(&self) -> &[TracedImage] {
        &self.images
    }

    /// How much it holds.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The same reads of images whose spans begin elsewhere; their streams must be as long.
    pub fn with_images(&self, images: Vec<TracedImage>) -> Result<Trace, TraceError> {
        let lens = |images: &[TracedImage]| -> Vec<u64> {
            images.iter().map(|image| image.stream_bytes).collect()
        };
        if lens(&images) != lens(&self.images) {
            let what = "it is of images of another length";
            return Err(TraceError::Damaged { at: 0, what });
        }
        Ok(Trace {
            images,
            ..self.clone()
        })
    }

    /// Whether it was finished.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Its records, in the order in which they were answered.
    pub fn records(&self) -> Records<'_> {
        Records {
            payloads: self.payloads.iter(),
            cursor: Cursor::new(&[]),
            before: Before::default(),
        }
    }
}

/// The records of a trace.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    payloads: std::slice::Iter<'a, Arc<[u8]>>,
    cursor: Cursor<'a>,
    before: Before,
}

impl Iterator for Records<'_> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        while self.cursor.is_at_end() {
            self.cursor = Cursor::new(self.payloads.next()?);
            self.before = Before::default();
        }
        // All of them were checked when the trace was opened.
        self.before.decode(&mut self.cursor).ok()
    }
}

/// Counts the records of a frame; all must be of images that are known, and inside of
/// them.
fn check(payload: &[u8], images: &[TracedImage], totals: &mut Totals) -> Result<u64, &'static str> {
    let (mut cursor, mut before, mut records) = (Cursor::new(payload), Before::default(), 0);
    while !cursor.is_at_end() {
        let read = before.decode(&mut cursor)?;
        let image = usize::try_from(read.image).ok().and_then(|n| images.get(n));
        let image = image.ok_or("a read of an unknown image")?;
        let end = read.stream.unwrap_or(0) + u64::from(read.len);
        if read.stream.is_some() && end > image.stream_bytes {
            return Err("a read behind the end of its image");
        }
        totals.duration_us = totals.duration_us.max(read.at_us);
        records += 1;
    }
    Ok(records)
}

/// Takes an image apart that was written in the form of a frame.
pub fn decoded_image(payload: &[u8]) -> Result<(u64, TracedImage), &'static str> {
    let mut from = Cursor::new(payload);
    let number = from.number()?;
    let mut image = TracedImage {
        digest: from.bytes(32)?.try_into().map_err(|_| "a short digest")?,
        ..TracedImage::default()
    };
    let name = usize::try_from(from.number()?).map_err(|_| "a long name")?;
    let name = std::str::from_utf8(from.bytes(name)?);
    name.map_err(|_| "a name that is no text")?
        .clone_into(&mut image.name);
    image.stream_bytes = from.number()?;
    image.archive_bytes = from.number()?;
    let spans = usize::try_from(from.number()?).map_err(|_| "too many spans")?;
    // Each takes two bytes at least.
    if spans > from.left() / 2 {
        return Err("fewer spans than it says");
    }
    image.spans.reserve_exact(spans);
    let mut last = SpanStart::default();
    for n in 0..spans {
        let stream = last.stream.checked_add(from.number()?);
        let archive = last.archive.checked_add(from.number()?);
        let span = SpanStart {
            stream: stream.ok_or("a span beyond all offsets")?,
            archive: archive.ok_or("a span beyond all offsets")?,
        };
        let is_in_order = match n {
            0 => span.stream == 0,
            _ => span.stream > last.stream,
        };
        if !is_in_order || span.stream >= image.stream_bytes {
            return Err("spans that are not in order");
        }
        image.spans.push(span);
        last = span;
    }
    if image.spans.is_empty() != (image.stream_bytes == 0) {
        return Err("an image without spans");
    }
    match from.is_at_end() {
        true => Ok((number, image)),
        false => Err("more spans than it says"),
    }
}

fn totals(payload: &[u8]) -> Result<Totals, &'static str> {
    let mut from = Cursor::new(payload);
    Ok(Totals {
        records: from.number()?,
        left_out: from.number()?,
        duration_us: from.number()?,
    })
}

/// Takes frames from a reader.
struct Frames<R> {
    from: R,
    at: u64,
}

impl<R: std::io::Read> Frames<R> {
    fn begin(mut from: R) -> Result<Self, TraceError> {
        let mut header = [0; HEADER_BYTES];
        let n = fill(&mut from, &mut header)?;
        if n < 8 || header[..8] != MAGIC[..] {
            return Err(TraceError::Foreign);
        }
        if n < HEADER_BYTES {
            return Err(TraceError::Truncated {
                records: 0,
                at: n as u64,
            });
        }
        let mut found = [0; 4];
        found.copy_from_slice(&header[8..12]);
        match u32::from_le_bytes(found) {
            VERSION => Ok(Self {
                from,
                at: HEADER_BYTES as u64,
            }),
            found => Err(TraceError::Version {
                found,
                known: VERSION,
            }),
        }
    }

    /// The next frame; nothing if what is left is not a whole one.
    fn next(&mut self) -> Result<Option<(Kind, Vec<u8>)>, TraceError> {
        let at = self.at;
        let damaged = |what| TraceError::Damaged { at, what };
        let mut header = [0; FRAME_HEADER_BYTES];
        if fill(&mut self.from, &mut header)? < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let [code, _, _, _, a, b, c, d, e, f, g, h] = header;
        let kind = Kind::parse(code).ok_or_else(|| damaged("an unknown part"))?;
        let len = u32::from_le_bytes([a, b, c, d]);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > PAYLOAD_BYTES_MAX {
            return Err(damaged("a part that is too long"));
        }
        let mut payload = vec![0; len];
        if fill(&mut self.from, &mut payload)? < len {
            return Ok(None);
        }
        if checksum(kind, &payload) != u32::from_le_bytes([e, f, g, h]) {
            return Err(damaged("a wrong checksum"));
        }
        self.at += (FRAME_HEADER_BYTES + len) as u64;
        Ok(Some((kind, payload)))
    }

    fn has_more(&mut self) -> Result<bool, TraceError> {
        Ok(fill(&mut self.from, &mut [0])? > 0)
    }
}

/// Fills `buf` as far as there is something.
fn fill(from: &mut impl std::io::Read, buf: &mut [u8]) -> Result<usize, TraceError> {
    let mut filled = 0;
    while filled < buf.len() {
        match from.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
