//! distrofs serves a container image archive as a read-only filesystem without
//! unpacking it.
//!
//! The modules from bottom to top; each names only modules above it in this
//! list, which `tests/tidy.rs` checks:
//!
//! | module | what it is |
//! |---|---|
//! | [`types`] | numbers and small traits that several layers speak |
//! | [`text`] | how numbers, times, names and tables are written for people |
//! | [`report`] | documents of tables and charts, for terminals, files and browsers |
//! | [`metrics`] | everything that is counted, in one table |
//! | [`trace`] | which reads reached a serving process, one by one |
//! | [`profile`] | which parts of an image a start reads, for the next one |
//! | [`budget`] | one byte budget for the process |
//! | [`config`] | settings: raw text in, checked values out |
//! | [`sys`] | the operating system; the only `unsafe` |
//! | [`source`] | uncompressed offset to verified bytes; knows no tar |
//! | [`index`] | path to extents; knows no compression |
//! | [`sidecar`] | the file that both put their tables in |
//! | [`store`] | images on disk: archive and index together |
//! | [`cache`] | byte-bounded cache of blocks, single flight, decode-ahead |
//! | [`fs`] | the read-only filesystem in plain types |
//! | [`fuse`] | the adapter to the kernel |
//! | [`inspect`] | what an owner should know about an image: requirements, risks, packages |
//! | [`view`] | what one container sees of an image: layers, composed by the kernel |
//! | [`container`] | a command in a container of its own, with a view as its root |
//! | [`wire`] | what the processes of `serve` tell each other |
//! | [`registry`] | who has which containers and images, and who may use what |
//! | [`serving`] | an image between its archive and the kernel |
//! | [`lab`] | what a trace shows, and what other caches would have made of it |
//! | [`worker`] | the process that serves one customer's images, as that customer |
//! | [`supervisor`] | root: mounts, views, and processes that parse nothing |
//! | [`api`] | HTTP: the API of the platform, and how everything is doing |
//! | [`cli`] | the program |
//!
//! A read goes `fuse` → `fs` → `index` for the extents → [`source::ReadAt`],
//! which is the cache over the source. An upload goes `store` → `source::scan`
//! beside `index::build` → `sidecar`.
#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod budget;
pub mod cache;
pub mod cli;
pub mod config;
pub mod container;
pub mod fs;
pub mod fuse;
pub mod index;
pub mod inspect;
pub mod lab;
pub mod metrics;
pub mod profile;
pub mod registry;
pub mod report;
pub mod serving;
pub mod sidecar;
pub mod source;
pub mod store;
pub mod supervisor;
pub mod sys;
pub mod text;
pub mod trace;
pub mod types;
pub mod view;
pub mod wire;
pub mod worker;
