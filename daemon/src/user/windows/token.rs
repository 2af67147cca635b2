//! What the system's tokens and its account database say, with safe signatures.
//!
//! By hand, because the safe bindings that there are hand out boxes that were allocated as something else.
//! Each block passes a handle that is open for the length of the call, and memory that is at least as large as the
//! length that goes with it.
#![expect(unsafe_code, reason = "no sound binding asks a token")]

use std::ffi::OsStr;
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Security::{
    GetTokenInformation, LookupAccountNameW, LookupAccountSidW, TOKEN_INFORMATION_CLASS,
    TOKEN_QUERY, TokenGroups, TokenUser,
};
use windows_sys::Win32::System::SystemServices::{SE_GROUP_ENABLED, SE_GROUP_USE_FOR_DENY_ONLY};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

use super::sid::Sid;

/// Who somebody is for the system.
pub(super) struct Token(OwnedHandle);

impl Token {
    /// That of this process.
    pub(super) fn of_process() -> io::Result<Self> {
        let mut handle = null_mut();
        // SAFETY: the pseudo handle of a process is always open.
        done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut handle) })?;
        // SAFETY: it was opened just now, and is nobody else's.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// That of whoever this thread acts as right now. Asked as the process itself: the other may not be allowed to.
    pub(super) fn of_impersonated() -> io::Result<Self> {
        let mut handle = null_mut();
        // SAFETY: the pseudo handle of a thread is always open.
        done(unsafe { OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &raw mut handle) })?;
        // SAFETY: it was opened just now, and is nobody else's.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Whose it is.
    pub(super) fn user(&self) -> Option<Sid> {
        let told = self.ask(TokenUser).ok()?;
        told.sid_at(0)
    }

    /// Groups in which it is, and which count for what it may do: an administrator who has not been asked for
    /// consent is in their group for what is forbidden alone.
    pub(super) fn groups(&self) -> Vec<Sid> {
        let Ok(told) = self.ask(TokenGroups) else { return Vec::new() };
        let pointer = size_of::<usize>();
        let counts = |at: usize| {
            let attributes = told.number(at + pointer, 4).unwrap_or(0);
            attributes & u64::from(SE_GROUP_ENABLED as u32) != 0
                && attributes & u64::from(SE_GROUP_USE_FOR_DENY_ONLY as u32) == 0
        };
        let count = told.number(0, 4).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let all = (0..count).map(|index| pointer + index * 2 * pointer);
        all.filter(|at| counts(*at)).filter_map(|at| told.sid_at(at)).collect()
    }

    fn ask(&self, what: TOKEN_INFORMATION_CLASS) -> io::Result<Told> {
        let mut len = 0;
        // SAFETY: with a length of 0 nothing is written but the length that it takes.
        unsafe { GetTokenInformation(self.0.as_raw_handle(), what, null_mut(), 0, &raw mut len) };
        let mut words = vec![0_u64; (len as usize).div_ceil(8)];
        let room = len;
        // SAFETY: see the module's documentation; words of 8 bytes are aligned for all that is in it.
        done(unsafe {
            GetTokenInformation(
                self.0.as_raw_handle(),
                what,
                words.as_mut_ptr().cast(),
                room,
                &raw mut len,
            )
        })?;
        let base = words.as_ptr().addr();
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(Told { base, bytes })
    }
}

/// An answer: structures that point into the memory behind them.
struct Told {
    /// Where it was when it was written.
    base: usize,
    bytes: Vec<u8>,
}

impl Told {
    fn number(&self, at: usize, len: usize) -> Option<u64> {
        let mut whole = [0; 8];
        whole[..len].copy_from_slice(self.bytes.get(at..at + len)?);
        Some(u64::from_le_bytes(whole))
    }

    /// The identifier that the pointer at `at` points to.
    fn sid_at(&self, at: usize) -> Option<Sid> {
        let pointer = usize::try_from(self.number(at, size_of::<usize>())?).ok()?;
        Sid::from_bytes(self.bytes.get(pointer.checked_sub(self.base)?..)?)
    }
}

/// The account or group of this name, as in `NAS\anna`; `None` when there is none. This may ask a server of the
/// domain, and take as long as it likes.
pub(super) fn account(name: &str) -> io::Result<Option<Sid>> {
    const ERROR_NONE_MAPPED: i32 = 1332;
    let name: Vec<u16> = OsStr::new(name).encode_wide().chain([0]).collect();
    let (mut sid, mut domain) = ([0_u64; 9], [0_u16; 256]);
    let (mut sid_len, mut domain_len, mut kind) = (72, 256, 0);
    // SAFETY: see the module's documentation; an identifier has at most 68 bytes, and `name` ends with a zero.
    let found = done(unsafe {
        LookupAccountNameW(
            null(),
            name.as_ptr(),
            sid.as_mut_ptr().cast(),
            &raw mut sid_len,
            domain.as_mut_ptr(),
            &raw mut domain_len,
            &raw mut kind,
        )
    });
    match found {
        Err(error) if error.raw_os_error() == Some(ERROR_NONE_MAPPED) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => {
            let bytes: Vec<u8> = sid.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Ok(Sid::from_bytes(&bytes))
        }
    }
}

/// What people call an account, as in `NAS\anna`. As slow as [`account`].
pub(super) fn name_of(sid: Sid) -> io::Result<String> {
    let mut words = vec![0_u64; 9];
    for (at, byte) in sid.to_bytes().into_iter().enumerate() {
        words[at / 8] |= u64::from(byte) << (8 * (at % 8));
    }
    let (mut name, mut domain) = ([0_u16; 256], [0_u16; 256]);
    let (mut name_len, mut domain_len, mut kind) = (256, 256, 0);
    // SAFETY: see the module's documentation; an identifier says itself how long it is.
    done(unsafe {
        LookupAccountSidW(
            null(),
            words.as_mut_ptr().cast(),
            name.as_mut_ptr(),
            &raw mut name_len,
            domain.as_mut_ptr(),
            &raw mut domain_len,
            &raw mut kind,
        )
    })?;
    let text = |units: &[u16], len: u32| String::from_utf16_lossy(&units[..len as usize]);
    let (name, domain) = (text(&name, name_len), text(&domain, domain_len));
    Ok(if domain.is_empty() { name } else { format!(r"{domain}\{name}") })
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_somebody_whose_name_leads_back() {
        let token = Token::of_process().unwrap();
        let user = token.user().unwrap();
        assert!(!token.groups().is_empty());
        let name = name_of(user).unwrap();
        assert_eq!(account(&name).unwrap(), Some(user), "{name}");
    }

    #[test]
    fn nobody_is_called_so() {
        assert_eq!(account("no-such-account-anywhere").unwrap(), None);
    }
}
