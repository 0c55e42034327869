//! The verbs of statements: the words that say what a statement does, and so where it may run.

use std::borrow::Cow;

use super::tokens::{Dialect, Kind, tokens};

/// The words that say what a statement does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verb {
    /// The first word, in capitals.
    pub(super) first: String,
    /// The one after it.
    second: String,
    /// The one after that.
    third: String,
    /// As the first, or what follows the common table expressions of `WITH`.
    main: String,
}

impl Verb {
    pub(super) fn of(dialect: Dialect, sql: &str) -> Self {
        let mut found = Self::default();
        let (mut depth, mut count) = (0_usize, 0_usize);
        for (kind, token) in tokens(dialect, sql) {
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 || count == 0 => {
                    let word = token.to_ascii_uppercase();
                    count += 1;
                    match count {
                        1 => found.first.clone_from(&word),
                        2 => found.second.clone_from(&word),
                        3 => found.third.clone_from(&word),
                        _ => {}
                    }
                    let is_main = match &*found.first {
                        "WITH" => matches!(
                            &*word,
                            "SELECT"
                                | "VALUES"
                                | "TABLE"
                                | "INSERT"
                                | "UPDATE"
                                | "DELETE"
                                | "MERGE"
                                | "REPLACE"
                        ),
                        _ => true,
                    };
                    if is_main && found.main.is_empty() {
                        found.main = word;
                    }
                    if count >= 3 && !found.main.is_empty() {
                        break;
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// True if the number of rows that the server gives is of rows that changed.
    pub(super) fn changes_rows(&self) -> bool {
        matches!(
            &*self.main,
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "REPLACE"
        )
    }

    /// True if it adds rows.
    pub(super) fn inserts(&self) -> bool {
        matches!(&*self.main, "INSERT" | "REPLACE")
    }

    /// The reason for which a statement must not run on a connection that others share.
    pub(super) fn misplaced(&self, dialect: Dialect) -> Option<Cow<'static, str>> {
        let transaction = match &*self.first {
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT"
            | "RELEASE" => true,
            "PREPARE" => self.second == "TRANSACTION",
            "XA" => dialect == Dialect::MySql,
            _ => false,
        };
        if transaction {
            return Some(TRANSACTION.into());
        }
        let session = match &*self.first {
            "SET" | "RESET" | "PREPARE" | "DEALLOCATE" | "DISCARD" | "LISTEN" | "UNLISTEN"
            | "DECLARE" => true,
            "USE" | "LOCK" | "UNLOCK" | "HANDLER" => dialect == Dialect::MySql,
            _ => false,
        };
        if session {
            return Some(
                format!(
                    "{} would hold for one of several connections only",
                    self.first
                )
                .into(),
            );
        }
        let transfer = match dialect {
            Dialect::Postgres => self.first == "COPY",
            Dialect::MySql => self.first == "LOAD",
            Dialect::Sqlite => false,
        };
        transfer.then(|| format!("{} is not possible; insert rows in a batch", self.first).into())
    }

    /// True if MySQL ends the transaction that the statement is in, so that nothing before it can be undone.
    pub(super) fn commits(&self) -> bool {
        match &*self.first {
            "CREATE" | "DROP" => self.second != "TEMPORARY",
            "ALTER" | "RENAME" | "TRUNCATE" | "GRANT" | "REVOKE" | "INSTALL" | "UNINSTALL"
            | "ANALYZE" | "CACHE" | "CHECK" | "FLUSH" | "OPTIMIZE" | "REPAIR" | "STOP"
            | "CHANGE" | "IMPORT" => true,
            _ => false,
        }
    }
}

const TRANSACTION: &str = "a transaction cannot be begun or ended by a statement, as others use the connection, too; use \
    batch([...]), which is one";

/// True if a statement changes nothing, so that a replica may run it. In doubt it is false, which is never wrong.
pub(super) fn only_reads(dialect: Dialect, sql: &str) -> bool {
    let verb = Verb::of(dialect, sql);
    let starts = matches!(&*verb.first, "SELECT" | "VALUES" | "TABLE" | "WITH");
    let changes = |(kind, token): (Kind, &str)| {
        // Also of a common table expression, of SELECT … INTO, and of SELECT … FOR UPDATE or FOR SHARE.
        let words = ["INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "SHARE"];
        kind == Kind::Word && words.iter().any(|word| token.eq_ignore_ascii_case(word))
    };
    starts && !verb.changes_rows() && !tokens(dialect, sql).any(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{MySql, Postgres};

    #[test]
    fn only_statements_that_change_nothing_are_for_replicas() {
        for sql in [
            "SELECT 1",
            "/* UPDATE */ select 'INSERT' from t",
            "(SELECT 1) UNION (SELECT 2)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1)",
            "SELECT \"update\" FROM t -- INTO",
        ] {
            assert!(only_reads(Postgres, sql), "{sql}");
        }
        for sql in [
            "",
            "INSERT INTO t VALUES (1)",
            "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "SELECT * INTO u FROM t",
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t FOR NO KEY UPDATE",
            "SELECT * FROM t FOR SHARE",
            "EXPLAIN ANALYZE DELETE FROM t",
            "CALL f()",
            "SHOW search_path",
        ] {
            assert!(!only_reads(Postgres, sql), "{sql}");
        }
        assert!(!only_reads(MySql, "SELECT 1 LOCK IN SHARE MODE"));
        assert!(!only_reads(MySql, "SELECT 1 /*! INTO OUTFILE 'a' */"));
        assert!(only_reads(MySql, "SELECT REPLACE(a, 'b', 'c') FROM t"));
    }

    #[test]
    fn the_main_verb_follows_the_common_table_expressions() {
        for (sql, changes) in [
            ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", true),
            ("WITH RECURSIVE a(n) AS (VALUES (1)) SELECT n FROM a", false),
            ("(SELECT 1) UNION (SELECT 2)", false),
            ("update t set a = 1", true),
            ("SELECT 1 FROM insert_log", false),
        ] {
            assert_eq!(Verb::of(Postgres, sql).changes_rows(), changes, "{sql}");
        }
        for (sql, commits) in [
            ("CREATE TABLE t (a INT)", true),
            ("CREATE TEMPORARY TABLE t (a INT)", false),
            ("alter table t add b int", true),
            ("INSERT INTO t VALUES (1)", false),
        ] {
            assert_eq!(Verb::of(MySql, sql).commits(), commits, "{sql}");
        }
    }
}
