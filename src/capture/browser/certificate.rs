//! Messages for the errors Chrome finds in a server's certificate: pure.

use url::Url;

/// Finds Chrome's name of the certificate error in Chrome's own error page, in any language; `null` if the page shows
/// another error. (`Page.navigate` of the DevTools protocol does not return it.)
pub const ERROR: &str = "(document.documentElement.textContent.match(/ERR_CERT_[A-Z_]+/) || [null])[0]";

/// The cause, without the token, where Chrome refuses the certificate of the server of `url`. `name`: Chrome's name of
/// the error. A retry does not help.
#[must_use]
pub fn refusal(name: &str, url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or("the meeting page");
    let port = url.as_ref().and_then(Url::port).map(|port| format!(":{port}")).unwrap_or_default();
    let (fault, advice) = match name {
        "ERR_CERT_AUTHORITY_INVALID" => (
            "nobody that Chrome trusts vouches for it",
            "name the file with your CA's certificate in plugNmeet_info.ca_file, and have the server send its intermediate certificates",
        ),
        "ERR_CERT_COMMON_NAME_INVALID" => {
            ("it is for another name", "set plugNmeet_info.host (or join_host) to a name that is in the certificate")
        }
        "ERR_CERT_DATE_INVALID" => {
            ("it has expired or is not valid yet", "renew it on the server, and compare the clocks of both hosts")
        }
        "ERR_CERT_REVOKED" => ("it was revoked", "give the server a new one"),
        _ => ("it has a fault", "look at it with `openssl s_client`"),
    };
    format!("Chrome refuses the certificate of {host}{port}: {fault} (net::{name}); {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_host_error_and_remedy_and_no_token() {
        let url = "https://meet.example.com:8443/?access_token=s3cret";
        for (name, wanted) in [
            ("ERR_CERT_AUTHORITY_INVALID", "plugNmeet_info.ca_file"),
            ("ERR_CERT_COMMON_NAME_INVALID", "another name (net::ERR_CERT_COMMON_NAME_INVALID)"),
            ("ERR_CERT_DATE_INVALID", "expired"),
            ("ERR_CERT_WEAK_KEY", "net::ERR_CERT_WEAK_KEY"),
        ] {
            let message = refusal(name, url);
            assert!(message.contains("meet.example.com:8443") && message.contains(wanted), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
