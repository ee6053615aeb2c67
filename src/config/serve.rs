//! The settings of `distrofs serve`, as a file in TOML has them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ByteSize, ConfigError, FuseTuning};
use crate::types::ImageOf;

/// What `serve` is to do. Every setting has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// The directory of the homes, each named by the number of its user.
    pub homes: PathBuf,
    /// The storage containers. None: each home that has a directory `distros`.
    pub storage: Vec<u32>,
    /// Where archives, indexes and what containers write are kept: on the
    /// filesystem of the homes. None: `.distrofs` in the directory of the homes.
    pub state: Option<PathBuf>,
    /// Sockets, and where images are mounted: in memory, gone after a reboot.
    pub run: PathBuf,
    /// What a worker stays within, for everything.
    pub memory: ByteSize,
    /// The control group of a storage container in each hierarchy, `{uid}` being its
    /// number: the worker gets one of its own below. None that is not there is made.
    pub cgroups: Vec<String>,
    /// The share of the processor against the container's own processes, 1 to 10000
    /// (`cpu.weight`).
    pub cpu_weight: u32,
    /// How many versions of an image are kept.
    pub versions_kept: u32,
    /// What containers may write if `attach` does not say: `paths` or `tree`.
    pub writable: String,
    /// The image of each container that has one, by its number, as `30000/debian`:
    /// what `attach` gives it if it is not told which.
    pub containers: BTreeMap<String, ImageOf>,
    /// Settings of sessions, as `key=value`.
    pub tune: Vec<String>,
    /// Where HTTP is answered, `/api`, `/metrics` and `/healthz`: an address with a port.
    /// Empty for nowhere; port 0 for any that is free, which is then in the file
    /// `api.addr` of the directory `run`.
    pub listen: String,
    /// Whether `listen` may be an address that other machines reach: passwords and
    /// images then go through the network as they are.
    pub insecure_http: bool,
    /// Where HTTP is answered besides, for programs on this machine: a Unix socket.
    /// Empty for nowhere; a name alone is one in the directory `run`.
    pub socket: String,
    /// Whether a proxy asks for others, and names them in `X-Forwarded-For`: tries of
    /// passwords are counted by these addresses then.
    pub forwarded: bool,
    /// The directory of the database of customers, containers and distros: of
    /// `api_user`, who must be able to get there.
    pub registry: PathBuf,
    /// This server, by its name in the registry: its containers get what is decided
    /// there. Empty: all are on this one.
    pub server: String,
    /// The directory of the platform's distros, each a directory by its name.
    pub distros: PathBuf,
    /// What restarts a container: a program and its arguments, `{uid}` being the
    /// container's number. None: its `vassal` file is touched, if it is there.
    pub restart: Vec<String>,
    /// The file of a container that an Emperor watches.
    pub vassal: String,
    /// How long an archive may be that is sent by HTTP.
    pub image_bytes_max: ByteSize,
    /// The user that answers there, and may ask how everything is doing. Best one
    /// that is used for nothing else; never that of a home.
    pub api_user: u32,
    /// How log lines are written: `text` or `json`.
    pub log: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// As it is given.
    pub fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl std::str::FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let both = [LogFormat::Text, LogFormat::Json].into_iter();
        let mut found = both.filter(|format| format.name() == name);
        found.next().ok_or("give text or json")
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            homes: "/containers".into(),
            storage: Vec::new(),
            state: None,
            run: "/run/distrofs".into(),
            memory: ByteSize(48 << 20),
            cgroups: Vec::new(),
            cpu_weight: 100,
            versions_kept: 3,
            writable: "tree".to_owned(),
            containers: BTreeMap::new(),
            tune: Vec::new(),
            listen: "127.0.0.1:8080".to_owned(),
            insecure_http: false,
            socket: "api.sock".to_owned(),
            forwarded: false,
            registry: "/var/lib/distrofs-registry".into(),
            server: String::new(),
            distros: "/distros".into(),
            restart: Vec::new(),
            vassal: "/etc/uwsgi-emperor/vassals/{uid}.ini".to_owned(),
            image_bytes_max: ByteSize(8 << 30),
            api_user: 65_534,
            log: LogFormat::Text,
        }
    }
}

/// Below, a decoder for each thread and some blocks do not fit.
const MEMORY_MIN: ByteSize = ByteSize(16 << 20);

impl ServeConfig {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<ServeConfig, ConfigError> {
        let file = |why: String| ConfigError::File {
            path: path.to_owned(),
            why,
        };
        let text = fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        toml::from_str(&text).map_err(|error| file(error.to_string().trim_end().to_owned()))
    }

    /// Changes one setting, given as `key=value`, the value in TOML or a plain text.
    pub fn set(&mut self, setting: &str) -> Result<(), ConfigError> {
        let form = || ConfigError::Form(setting.to_owned());
        let (key, value) = setting.split_once('=').ok_or_else(form)?;
        let quoted = toml::Value::String(value.to_owned()).to_string();
        let mut why = None;
        for value in [value, &quoted] {
            let mut all = toml::Table::try_from(&*self).map_err(|_| form())?;
            match format!("v = {value}").parse::<toml::Table>() {
                Ok(mut parsed) => all.insert(key.to_owned(), parsed.remove("v").ok_or_else(form)?),
                Err(_) => continue,
            };
            match all.try_into() {
                Ok(changed) => {
                    *self = changed;
                    return Ok(());
                }
                Err(error) => why = why.or(Some(error.to_string().trim_end().to_owned())),
            }
        }
        Err(ConfigError::Setting {
            setting: setting.to_owned(),
            why: why.unwrap_or_default(),
        })
    }

    /// Checks what no type checks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting: &str, why: &str| {
            Err(ConfigError::Setting {
                setting: setting.to_owned(),
                why: why.to_owned(),
            })
        };
        for (setting, path) in [
            ("homes", &self.homes),
            ("run", &self.run),
            ("registry", &self.registry),
            ("distros", &self.distros),
        ] {
            if !path.is_absolute() {
                return wrong(setting, "give an absolute path");
            }
        }
        if self.state.as_ref().is_some_and(|path| !path.is_absolute()) {
            return wrong("state", "give an absolute path");
        }
        if self.memory < MEMORY_MIN {
            return wrong("memory", "give at least 16M");
        }
        if !(1..=10_000).contains(&self.cpu_weight) {
            return wrong("cpu_weight", "give 1 to 10000");
        }
        if self.versions_kept == 0 {
            return wrong("versions_kept", "give at least 1: the one that is served");
        }
        if !["paths", "tree", "none"].contains(&&*self.writable) {
            return wrong("writable", "give paths, tree or none");
        }
        if self.storage.contains(&0) || self.api_user == 0 {
            return wrong("storage, api_user", "root serves nothing");
        }
        if self.storage.contains(&self.api_user) {
            return wrong(
                "api_user",
                "give a user that has no home: it is told of all",
            );
        }
        self.listen()?;
        if self.socket.contains('/') && !self.socket.starts_with('/') {
            return wrong("socket", "give an absolute path, or a name alone");
        }
        if !self.vassal.starts_with('/') || !self.vassal.contains("{uid}") {
            return wrong("vassal", "give an absolute path with {uid} in it");
        }
        if let Some(name) = self.containers.keys().find(|name| number(name).is_none()) {
            return wrong("containers", &format!("{name} is no number of a user"));
        }
        let mut tuning = FuseTuning::default();
        self.tune.iter().try_for_each(|setting| tuning.set(setting))
    }

    /// Where HTTP is answered, if it is.
    pub fn listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let wrong = |why: &str| ConfigError::Setting {
            setting: format!("listen={}", self.listen),
            why: why.to_owned(),
        };
        let parsed = self.listen.parse::<SocketAddr>().map_err(|_| {
            wrong("give an address with a port, such as 127.0.0.1:8080 or [::1]:8080, or nothing")
        })?;
        match parsed.ip().is_loopback() || self.insecure_http {
            true => Ok(Some(parsed)),
            false => Err(wrong(
                "nothing is encrypted: give 127.0.0.1 or [::1], and let a proxy in front of it \
                 answer others; or set insecure_http = true",
            )),
        }
    }

    /// The Unix socket that HTTP is answered at, if there is one.
    pub fn socket(&self) -> Option<PathBuf> {
        let is_one = !self.socket.is_empty();
        is_one.then(|| self.run.join(&self.socket))
    }

    /// The image that is chosen for a container.
    pub fn image_of(&self, container: u32) -> Option<&ImageOf> {
        let mut all = self.containers.iter();
        let found = all.find(|(name, _)| number(name) == Some(container));
        found.map(|(_, image)| image)
    }

    /// Where archives, indexes and what containers write are kept.
    pub fn state(&self) -> PathBuf {
        let default = || self.homes.join(".distrofs");
        self.state.clone().unwrap_or_else(default)
    }
}

/// The number of a container's user: root is none.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_default_and_nothing_else_is_known() {
        assert_eq!(
            toml::from_str::<ServeConfig>("").unwrap(),
            ServeConfig::default()
        );
        ServeConfig::default().check().unwrap();
        let config: ServeConfig =
            toml::from_str("storage = [30000]\nmemory = \"32M\"\ncgroups = [\"/sys/{uid}\"]")
                .unwrap();
        assert_eq!((config.storage[0], config.memory.0), (30_000, 32 << 20));
        let error = toml::from_str::<ServeConfig>("stroage = [1]").unwrap_err();
        assert!(error.to_string().contains("stroage"), "{error}");
        let shown = toml::to_string(&ServeConfig::default()).unwrap();
        assert_eq!(
            toml::from_str::<ServeConfig>(&shown).unwrap(),
            ServeConfig::default()
        );
    }

    #[test]
    fn settings_can_be_given_one_by_one() {
        let mut config = ServeConfig::default();
        for setting in [
            "run=/tmp/a b",
            "storage=[1,2]",
            "memory=20M",
            "cpu_weight=7",
            "listen=[::1]:0",
            "log=json",
        ] {
            config.set(setting).unwrap();
        }
        assert_eq!(config.run, Path::new("/tmp/a b"));
        assert_eq!((&config.storage[..], config.cpu_weight), (&[1, 2][..], 7));
        assert_eq!(config.memory, ByteSize(20 << 20));
        assert!(config.listen().unwrap().is_some_and(|at| at.port() == 0));
        assert_eq!(config.log, LogFormat::Json);
        for wrong in ["run", "log=xml", "no=1", "cpu_weight=x", "memory=lots"] {
            let error = config.set(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn values_are_checked() {
        for (setting, word) in [
            ("memory=1M", "16M"),
            ("run=here", "absolute"),
            ("cpu_weight=0", "10000"),
            ("versions_kept=0", "at least 1"),
            ("writable=all", "tree"),
            ("tune=[\"spin\"]", "key=value"),
            ("storage=[0]", "root"),
            ("containers={ x = \"30000/web\" }", "number"),
            ("storage=[65534]", "api_user"),
            ("listen=0.0.0.0:8080", "proxy"),
            ("listen=192.0.2.1:8080", "proxy"),
            ("listen=8080", "127.0.0.1:8080"),
            ("distros=here", "absolute"),
            ("vassal=here/{uid}.ini", "absolute"),
            ("vassal=/vassals", "{uid}"),
            ("socket=a/b", "absolute"),
        ] {
            let mut config = ServeConfig::default();
            config.set(setting).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(word), "{setting}: {error}");
        }
        let mut open = ServeConfig::default();
        for setting in ["listen=0.0.0.0:8080", "insecure_http=true", "socket="] {
            open.set(setting).unwrap();
        }
        open.check().unwrap();
        assert_eq!(open.socket(), None);
    }
}
