//! Extended attributes as getxattr(2) and listxattr(2) want them.

use crate::fs::{FsError, Owner};
use crate::index::{IndexError, Xattr};

/// The most bytes of names that Linux lists (`XATTR_LIST_MAX`).
const LIST_BYTES_MAX: usize = 65_536;

/// Attributes that give rights to an owner, a group or a program. Under one
/// owner for all they would give what the squash takes away.
const PRIVILEGES: [&[u8]; 3] = [
    b"security.capability",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];

/// What a caller gets, depending on the size of its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XattrAnswer {
    /// It asked how long the answer is.
    Size(u32),
    /// The answer.
    Data(Vec<u8>),
}

/// Whether an attribute is there for whom the files belong to.
pub(super) fn visible(name: &[u8], owner: Owner) -> bool {
    owner == Owner::Keep || !PRIVILEGES.contains(&name)
}

/// An answer for a buffer of `size` bytes; 0 asks for the length.
pub(super) fn answer(data: Vec<u8>, size: u32) -> Result<XattrAnswer, FsError> {
    let len = u32::try_from(data.len()).map_err(|_| FsError::BufferTooSmall)?;
    match size {
        0 => Ok(XattrAnswer::Size(len)),
        size if size < len => Err(FsError::BufferTooSmall),
        _ => Ok(XattrAnswer::Data(data)),
    }
}

/// All visible names, each with a NUL behind it.
pub(super) fn names<'a>(
    attributes: impl Iterator<Item = Result<Xattr<'a>, IndexError>>,
    owner: Owner,
) -> Result<Vec<u8>, FsError> {
    let mut list = Vec::new();
    for attribute in attributes {
        let name = attribute?.name;
        if visible(name, owner) {
            if list.len() + name.len() >= LIST_BYTES_MAX {
                return Err(FsError::ListTooLong);
            }
            list.extend_from_slice(name);
            list.push(0);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUASH: Owner = Owner::Squash { uid: 1, gid: 1 };

    fn list(owner: Owner) -> Vec<u8> {
        let all = [
            &b"user.a"[..],
            b"security.capability",
            b"system.posix_acl_default",
            b"user.b",
        ];
        names(
            all.into_iter().map(|name| Ok(Xattr { name, value: b"" })),
            owner,
        )
        .unwrap()
    }

    #[test]
    fn one_owner_for_all_hides_privileges() {
        assert_eq!(list(SQUASH), b"user.a\0user.b\0");
        assert!(list(Owner::Keep).ends_with(b"capability\0system.posix_acl_default\0user.b\0"));
    }

    #[test]
    fn a_buffer_gets_all_or_an_error() {
        let data = || b"abc".to_vec();
        assert_eq!(answer(data(), 0).unwrap(), XattrAnswer::Size(3));
        assert_eq!(answer(data(), 3).unwrap(), XattrAnswer::Data(data()));
        assert!(matches!(answer(data(), 2), Err(FsError::BufferTooSmall)));
        assert_eq!(
            answer(Vec::new(), 5).unwrap(),
            XattrAnswer::Data(Vec::new())
        );
    }

    #[test]
    fn a_list_that_linux_cannot_carry_is_refused_early() {
        let endless = std::iter::repeat_with(|| {
            Ok(Xattr {
                name: b"user.x",
                value: b"",
            })
        });
        assert!(matches!(
            names(endless, Owner::Keep),
            Err(FsError::ListTooLong)
        ));
    }
}
