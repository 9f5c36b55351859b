//! The text that both sides' compression of headers begins with (SPDY/3 draft, section 2.6.10.1): words of HTTP, each
//! preceded by its length as in a header block, then a tail without lengths.

/// What a zlib stream that uses the dictionary names it by.
pub(crate) const ADLER32: u32 = 0xe3c6_a7c2;

#[rustfmt::skip]
const WORDS: [&str; 65] = [
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection", "content-base",
    "content-encoding", "content-language", "content-length", "content-location", "content-md5", "content-range",
    "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "pragma",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning", "www-authenticate", "method", "get",
    "status", "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
];

const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug \
    Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(crate) fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for word in WORDS {
        text.extend((word.len() as u32).to_be_bytes());
        text.extend(word.bytes());
    }
    text.extend(TAIL.bytes());
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_dictionary_of_the_protocol() {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in super::text() {
            low = (low + u32::from(byte)) % 65521;
            high = (high + low) % 65521;
        }
        assert_eq!(super::text().len(), 1423);
        assert_eq!(high << 16 | low, super::ADLER32);
    }
}
