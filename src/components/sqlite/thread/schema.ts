/** The tables of a database file, and how an older one becomes the present one. */
import type { DatabaseSync } from "node:sqlite";
import { StoreError } from "../errors.ts";

/** Marks the file as ours, in its header: "Outr". */
const applicationId = 0x4f757472;

/**
 * What makes a file of version n + 1 of one of version n: the first makes the
 * tables. Never changed once released; a new version is a new entry.
 */
const versions: readonly string[] = [
  `
  -- Numbers that only grow. Their owners are in counters.ts.
  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;

  -- The sidecars that have the file open. host, pid and started say whether one is alive; beat changes while it is.
  CREATE TABLE processes (
    id INTEGER PRIMARY KEY, instance TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    started TEXT NOT NULL, beat INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last_seq INTEGER NOT NULL, bytes INTEGER NOT NULL
  ) STRICT;

  -- One log for all topics: id is the position, seq counts within the topic.
  CREATE TABLE events (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, seq INTEGER NOT NULL, published_at INTEGER NOT NULL,
    expires_at INTEGER, raw INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT, event BLOB NOT NULL
  ) STRICT;
  CREATE INDEX events_topic ON events (topic);

  -- Events that enter their topic later.
  CREATE TABLE scheduled (
    id INTEGER PRIMARY KEY, due_at INTEGER NOT NULL, topic INTEGER NOT NULL, ttl INTEGER,
    raw INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT, event BLOB NOT NULL
  ) STRICT;
  CREATE INDEX scheduled_due ON scheduled (due_at);

  -- Consumer groups. Behind the cursor, an event without a delivery is settled. A group without a
  -- name belongs to one member. woken grows when deliveries become free for other processes.
  CREATE TABLE groups (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, pattern INTEGER NOT NULL, name TEXT, ordered INTEGER NOT NULL,
    cursor INTEGER NOT NULL, blocked INTEGER NOT NULL, trimmed INTEGER NOT NULL, woken INTEGER NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX groups_name ON groups (topic, name);
  CREATE INDEX groups_pattern ON groups (id) WHERE pattern = 1;
  CREATE INDEX groups_woken ON groups (woken);

  CREATE TABLE members (id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL, process INTEGER NOT NULL) STRICT;

  -- Events behind the cursor that are not settled. Held by a member: owner is set. Waiting for a time: due_at
  -- is set. Neither: an earlier event of its key goes first. lane is the key in ordered groups, else NULL.
  CREATE TABLE deliveries (
    group_id INTEGER NOT NULL, event_id INTEGER NOT NULL, owner INTEGER, attempt INTEGER NOT NULL,
    due_at INTEGER, lane TEXT, PRIMARY KEY (group_id, event_id)
  ) WITHOUT ROWID, STRICT;
  CREATE INDEX deliveries_due ON deliveries (group_id, due_at, event_id) WHERE due_at IS NOT NULL;
  CREATE INDEX deliveries_lane ON deliveries (group_id, lane, event_id) WHERE lane IS NOT NULL;

  -- State stores: one for each tableName. horizon: the newest revision whose deletion has been forgotten.
  CREATE TABLE stores (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, horizon INTEGER NOT NULL) STRICT;

  -- Items. A deleted one stays for a while, for watches that resume. A value is here or in chunks.
  CREATE TABLE items (
    store INTEGER NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, bytes INTEGER NOT NULL,
    content_type TEXT NOT NULL, metadata TEXT, expires_at INTEGER, deleted_at INTEGER, blob INTEGER,
    value BLOB, PRIMARY KEY (store, key)
  ) WITHOUT ROWID, STRICT;
  CREATE UNIQUE INDEX items_revision ON items (revision);
  CREATE INDEX items_expiry ON items (store, expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
  CREATE INDEX items_deleted ON items (deleted_at) WHERE deleted_at IS NOT NULL;

  -- Values in chunks that no item has: being written by a process, or garbage (0).
  CREATE TABLE blobs (id INTEGER PRIMARY KEY, process INTEGER NOT NULL) STRICT;
  CREATE TABLE chunks (
    blob INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (blob, n)
  ) WITHOUT ROWID, STRICT;

  -- Another for every file, so that positions of one mean nothing in another.
  CREATE TABLE identity (id TEXT NOT NULL) STRICT;
  INSERT INTO identity VALUES (lower(hex(randomblob(4))));
  `,
];

/**
 * Makes a file ready. Throws StoreError when it is not ours or too new, and
 * what node:sqlite throws, SQLITE_BUSY included: try again then.
 */
export function migrate(db: DatabaseSync): void {
  // In this order: another sidecar may be making the file right now, and tables come with their id.
  const tables = db.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"];
  const found = number(db, "application_id");
  if (found !== applicationId && (found !== 0 || tables !== 0)) {
    throw new StoreError("refused", "the file is an SQLite database of another program");
  }
  const mode = db.prepare("PRAGMA journal_mode = WAL").get()?.["journal_mode"];
  if (mode !== "wal") {
    throw new StoreError("refused", `SQLite cannot keep a write-ahead log there (journal mode "${mode}")`);
  }
  db.exec(`
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -8192;
    PRAGMA temp_store = MEMORY;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA wal_autocheckpoint = 8000;
  `);
  if (number(db, "user_version") === versions.length) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    // Another sidecar may have been here while we waited for the lock.
    const version = number(db, "user_version");
    if (version > versions.length) {
      const text = `the file was made by a newer Outrider (version ${version}, this one knows ${versions.length})`;
      throw new StoreError("refused", text);
    }
    for (const sql of versions.slice(version)) db.exec(sql);
    db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${versions.length}; COMMIT`);
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

function number(db: DatabaseSync, pragma: string): number {
  return Number(db.prepare(`PRAGMA ${pragma}`).get()?.[pragma] ?? 0);
}
