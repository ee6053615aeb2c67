-- Version 1. Each CHECK says what the code checks before, so that no other program can
-- leave here what the code does not expect. Lengths are characters. Texts that are names
-- have no NUL, since SQLite's own functions end there.

CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- Another one after each change of what is decided for containers. It begins with
    -- the time, in milliseconds, so that two databases have no state of the same name.
    revision INTEGER NOT NULL CHECK (revision >= 0),
    -- The highest number of an alarm of the service that was taken.
    alarms_taken INTEGER NOT NULL CHECK (alarms_taken >= 0)
) STRICT;
INSERT INTO state VALUES (1, CAST(unixepoch('subsec') * 1000 AS INTEGER), 0);

CREATE TABLE customers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL UNIQUE
        CHECK (length(username) BETWEEN 1 AND 255 AND instr(username, char(0)) = 0),
    password TEXT NOT NULL CHECK (length(password) <= 1024),
    email TEXT NOT NULL CHECK (length(email) <= 255 AND instr(email, char(0)) = 0),
    vat TEXT NOT NULL CHECK (length(vat) <= 255 AND instr(vat, char(0)) = 0),
    company TEXT NOT NULL CHECK (length(company) <= 255 AND instr(company, char(0)) = 0),
    uuid TEXT NOT NULL UNIQUE CHECK (length(uuid) = 36)
) STRICT;

CREATE TABLE servers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
        CHECK (length(name) BETWEEN 1 AND 255 AND instr(name, char(0)) = 0),
    address TEXT NOT NULL CHECK (length(address) <= 255 AND instr(address, char(0)) = 0)
) STRICT;

CREATE TABLE platform_distros (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- A directory's name.
    name TEXT NOT NULL UNIQUE CHECK (
        length(name) BETWEEN 1 AND 255 AND instr(name, char(0)) = 0
        AND name NOT GLOB '*[^A-Za-z0-9._-]*' AND name NOT IN ('.', '..'))
) STRICT;

CREATE TABLE containers (
    -- 4294967295 is nobody.
    uid INTEGER PRIMARY KEY CHECK (uid BETWEEN 1 AND 4294967294),
    customer INTEGER NOT NULL REFERENCES customers (id),
    server INTEGER NOT NULL REFERENCES servers (id),
    name TEXT NOT NULL
        CHECK (length(name) BETWEEN 1 AND 255 AND instr(name, char(0)) = 0),
    hostname TEXT NOT NULL CHECK (length(hostname) <= 255 AND instr(hostname, char(0)) = 0),
    ip TEXT NOT NULL CHECK (length(ip) <= 255 AND instr(ip, char(0)) = 0),
    -- In MiB, both.
    memory INTEGER NOT NULL CHECK (memory >= 0),
    storage INTEGER NOT NULL CHECK (storage >= 0),
    uuid TEXT NOT NULL UNIQUE CHECK (length(uuid) = 36),
    platform_distro INTEGER REFERENCES platform_distros (id),
    custom_distro INTEGER REFERENCES custom_distros (id) ON DELETE SET NULL,
    custom_distros_storage INTEGER NOT NULL CHECK (custom_distros_storage IN (0, 1)),
    writable TEXT CHECK (writable IN ('paths', 'tree', 'none')),
    note TEXT NOT NULL CHECK (length(note) <= 16384),
    -- Lists of texts.
    tags TEXT NOT NULL CHECK (json_valid(tags) AND json_type(tags) = 'array'),
    ssh_keys TEXT NOT NULL CHECK (json_valid(ssh_keys) AND json_type(ssh_keys) = 'array'),
    -- The SHA-256 of the key.
    alarm_key BLOB CHECK (length(alarm_key) = 32),
    CHECK (NOT (custom_distros_storage AND custom_distro IS NOT NULL)),
    UNIQUE (uid, customer)
) STRICT;
CREATE INDEX containers_of_customer ON containers (customer, uid);
CREATE INDEX containers_of_server ON containers (server, uid);
CREATE INDEX containers_on_platform_distro ON containers (platform_distro)
    WHERE platform_distro IS NOT NULL;
CREATE INDEX containers_on_custom_distro ON containers (custom_distro)
    WHERE custom_distro IS NOT NULL;

CREATE TABLE custom_distros (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Where it is stored.
    container INTEGER NOT NULL REFERENCES containers (uid),
    name TEXT NOT NULL
        CHECK (length(name) BETWEEN 1 AND 255 AND instr(name, char(0)) = 0),
    path TEXT NOT NULL CHECK (
        length(path) BETWEEN 1 AND 255 AND instr(path, char(0)) = 0
        AND path NOT GLOB '*[^A-Za-z0-9._-]*' AND path NOT IN ('.', '..')),
    note TEXT NOT NULL CHECK (length(note) <= 16384),
    uuid TEXT NOT NULL UNIQUE CHECK (length(uuid) = 36),
    UNIQUE (container, name),
    UNIQUE (container, path)
) STRICT;

CREATE TABLE alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    container INTEGER NOT NULL,
    -- So that a customer's are found in their order, whatever container they are of.
    customer INTEGER NOT NULL,
    level INTEGER NOT NULL CHECK (level >= 0),
    color TEXT NOT NULL CHECK (length(color) <= 255),
    class TEXT NOT NULL CHECK (length(class) <= 255),
    vassal TEXT NOT NULL CHECK (length(vassal) <= 255),
    line INTEGER,
    filename TEXT NOT NULL CHECK (length(filename) <= 255),
    func TEXT NOT NULL CHECK (length(func) <= 255),
    unix INTEGER NOT NULL CHECK (unix >= 0),
    msg TEXT NOT NULL CHECK (octet_length(msg) <= 65536),
    FOREIGN KEY (container, customer) REFERENCES containers (uid, customer) ON DELETE CASCADE
) STRICT;
CREATE INDEX alarms_of_container ON alarms (container, customer);
CREATE INDEX alarms_of_customer ON alarms (customer);

-- Containers that are to be restarted, one of each at most. A ticket is never used
-- again: who was restarted for an earlier one is restarted for a later one too.
CREATE TABLE restarts (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    container INTEGER NOT NULL UNIQUE REFERENCES containers (uid) ON DELETE CASCADE
) STRICT;

-- Whatever changes what is decided makes another revision.
CREATE TRIGGER containers_added AFTER INSERT ON containers
BEGIN UPDATE state SET revision = revision + 1; END;
CREATE TRIGGER containers_removed AFTER DELETE ON containers
BEGIN UPDATE state SET revision = revision + 1; END;
CREATE TRIGGER containers_changed
AFTER UPDATE OF uid, customer, server, platform_distro, custom_distro, custom_distros_storage,
    writable ON containers
WHEN (OLD.uid, OLD.customer, OLD.server, OLD.platform_distro, OLD.custom_distro,
      OLD.custom_distros_storage, OLD.writable)
    IS NOT (NEW.uid, NEW.customer, NEW.server, NEW.platform_distro, NEW.custom_distro,
      NEW.custom_distros_storage, NEW.writable)
BEGIN UPDATE state SET revision = revision + 1; END;
CREATE TRIGGER custom_distros_changed AFTER UPDATE OF id, container, path ON custom_distros
WHEN (OLD.id, OLD.container, OLD.path) IS NOT (NEW.id, NEW.container, NEW.path)
BEGIN UPDATE state SET revision = revision + 1; END;
CREATE TRIGGER custom_distros_removed AFTER DELETE ON custom_distros
BEGIN UPDATE state SET revision = revision + 1; END;
CREATE TRIGGER platform_distros_changed AFTER UPDATE OF id, name ON platform_distros
WHEN (OLD.id, OLD.name) IS NOT (NEW.id, NEW.name)
BEGIN UPDATE state SET revision = revision + 1; END;
CREATE TRIGGER servers_changed AFTER UPDATE OF id, name ON servers
WHEN (OLD.id, OLD.name) IS NOT (NEW.id, NEW.name)
BEGIN UPDATE state SET revision = revision + 1; END;
