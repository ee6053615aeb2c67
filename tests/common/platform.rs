//! A service with a registry: two customers, each with a storage container and a
//! consumer on the same server.
//!
//! Guarantees: as for a [`Service`]; and the registry's directory is gone as well.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::program::{Ran, distrofs, run};
use super::service::Service;

/// Who answers HTTP.
pub(crate) const API_USER: u32 = 65_534;

/// The containers of the first customer: what stores, and what uses.
pub(crate) const STORAGE: u32 = 30_000;
pub(crate) const CONSUMER: u32 = 30_001;

/// And of the second.
pub(crate) const OTHER_STORAGE: u32 = 30_010;
pub(crate) const OTHER_CONSUMER: u32 = 30_011;

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A customer, as it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Customer {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

pub(crate) const KRATOS: Customer = Customer {
    name: "kratos",
    password: "deimos of sparta",
};
pub(crate) const ZEUS: Customer = Customer {
    name: "zeus",
    password: "thunder and bolts",
};

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Of all that came until the connection ended.
    #[track_caller]
    pub(crate) fn read(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let line = head.lines().next().expect("a line");
        let mut words = line.splitn(3, ' ').skip(1);
        Answer {
            status: words.next().expect("a status").parse().expect("a number"),
            reason: words.next().unwrap_or_default().to_owned(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// What was answered with this status.
    #[track_caller]
    pub(crate) fn with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        self.with(200)
    }

    #[track_caller]
    pub(crate) fn forbidden(&self) {
        assert_eq!(self.with(403), json!({"error": "Forbidden"}));
        assert_eq!(self.reason, "FORBIDDEN");
    }
}

/// A service that answers the platform's API.
pub(crate) struct Platform {
    pub(crate) service: Service,
    registry: tempfile::TempDir,
    /// What it is to know.
    all: Value,
    at: OnceLock<SocketAddr>,
}

impl Platform {
    /// Not started yet.
    #[track_caller]
    pub(crate) fn new() -> Platform {
        let all = json!({
            "servers": [{"name": "here", "address": "192.0.2.1"}],
            "default_distros": ["precise"],
            "customers": [
                {"username": KRATOS.name, "password": KRATOS.password, "email": "k@example.com",
                 "vat": "1", "company": "Sparta"},
                {"username": ZEUS.name, "password": ZEUS.password},
            ],
            "containers": [
                {"uid": STORAGE, "customer": KRATOS.name, "server": "here", "name": "storage",
                 "distro": "precise", "custom_distros_storage": true},
                {"uid": CONSUMER, "customer": KRATOS.name, "server": "here", "name": "web",
                 "distro": "precise", "memory": 64, "storage": 100},
                {"uid": OTHER_STORAGE, "customer": ZEUS.name, "server": "here", "name": "storage",
                 "distro": "precise", "custom_distros_storage": true},
                {"uid": OTHER_CONSUMER, "customer": ZEUS.name, "server": "here", "name": "web",
                 "distro": "precise"},
            ],
        });
        Platform::with(&[STORAGE, OTHER_STORAGE], &all)
    }

    /// With homes of these users, and all that `import` knows.
    #[track_caller]
    pub(crate) fn with(homes: &[u32], all: &Value) -> Platform {
        let mut service = Service::new(homes);
        // Its user has to get there.
        let registry = tempfile::Builder::new()
            .prefix("distrofs-test-")
            .tempdir_in("/tmp")
            .expect("make a directory");
        chown(registry.path(), Some(API_USER), Some(API_USER)).expect("give it away");
        fs::set_permissions(registry.path(), Permissions::from_mode(0o700)).expect("close it");
        let distro = service.path().join("distros/precise");
        super::view::dir(&distro.join(".old_root"), 0o755);
        super::view::file(&distro.join("etc/version"), 0o644, b"precise");
        for setting in [
            "listen=127.0.0.1:0".to_owned(),
            "socket=api.sock".to_owned(),
            format!("registry={}", registry.path().display()),
            format!("distros={}", service.path().join("distros").display()),
            format!("vassal={}/vassals/{{uid}}.ini", service.path().display()),
        ] {
            service.set(&setting);
        }
        let platform = Platform {
            service,
            registry,
            all: all.clone(),
            at: OnceLock::new(),
        };
        platform.import(all);
        platform
    }

    /// Starts it, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(&mut self) -> &mut Platform {
        self.service.start();
        self.moved();
        self.ask(&KRATOS, "GET", "/api/me", "").ok();
        self
    }

    /// It listens elsewhere now.
    pub(crate) fn moved(&mut self) {
        self.at = OnceLock::new();
    }

    #[track_caller]
    pub(crate) fn import(&self, all: &Value) {
        let file = self.service.path().join("import.json");
        fs::write(&file, all.to_string()).expect("write a file");
        self.admin(&["import", &file.display().to_string()]).ok();
    }

    /// A command of an administrator.
    #[track_caller]
    pub(crate) fn admin(&self, words: &[&str]) -> Ran {
        let mut command = distrofs(["admin"]);
        command.args(words);
        let run_dir = self.service.run_dir();
        for setting in [
            format!("registry={}", self.registry().display()),
            format!("run={}", run_dir.display()),
        ] {
            command.args(["--set", &setting]);
        }
        run(&mut command)
    }

    pub(crate) fn registry(&self) -> &Path {
        self.registry.path()
    }

    #[track_caller]
    pub(crate) fn at(&self) -> SocketAddr {
        *self.at.get_or_init(|| self.service.http())
    }

    /// What a customer is answered.
    #[track_caller]
    pub(crate) fn ask(&self, by: &Customer, method: &str, path: &str, body: &str) -> Answer {
        let basic = STANDARD.encode(format!("{}:{}", by.name, by.password));
        let headers = format!("Authorization: Basic {basic}\r\n");
        self.send(method, path, &headers, body.as_bytes())
    }

    /// What a request is answered.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).expect("ask")
    }

    /// A new registry that knows the same.
    #[track_caller]
    pub(crate) fn import_again(&self) {
        self.import(&self.all);
    }

    /// What a container's root is: what its `/etc/version` says.
    #[track_caller]
    pub(crate) fn root_of(&self, container: u32) -> String {
        let ran = self
            .service
            .attached_root(container, "cat \"$1/etc/version\"");
        ran.ok().stdout
    }

    /// What bytes are answered.
    pub(crate) fn raw(&self, bytes: &[u8]) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.at())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Answer::read(&answer))
    }

    /// A new custom distro; its number.
    #[track_caller]
    pub(crate) fn distro(&self, by: &Customer, storage: u32, path: &str) -> i64 {
        let new = json!({"name": path, "path": path}).to_string();
        let created = self.ask(by, "POST", &format!("/api/custom_distros/{storage}"), &new);
        assert_eq!(created.with(201), json!({"message": "Created"}));
        let all = self.ask(by, "GET", "/api/custom_distros", "").ok();
        let found = all.as_array().expect("a list").iter();
        let mut found = found.filter(|distro| distro["name"] == path);
        found.next().expect("it is there")["id"]
            .as_i64()
            .expect("a number")
    }
}
