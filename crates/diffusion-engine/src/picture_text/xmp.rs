//! XMP: the comment that Draw Things, among others, writes into the XML.

use super::stored::Stored;

/// The texts by the keys that a PNG would have for them: what `exif:UserComment` and `dc:description` hold.
pub(super) fn texts(xml: &str) -> Vec<(String, Stored)> {
    [("exif:UserComment", "usercomment"), ("dc:description", "description")]
        .into_iter()
        .filter_map(|(name, key)| Some((key.to_owned(), Stored::Text(content(xml, name)?))))
        .collect()
}

/// What an element holds, or an attribute of that name, without the tags within.
fn content(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(name)?;
    if let Some(value) = rest.trim_start().strip_prefix('=') {
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        return Some(plain(value[1..].split(quote).next()?));
    }
    let (_, inner) = rest.split_once('>')?;
    let (inner, _) = inner.split_once(&format!("</{name}"))?;
    if let Some((_, data)) = inner.split_once("<![CDATA[") {
        return Some(data.split_once("]]>").map_or(data, |(data, _)| data).to_owned());
    }
    let mut text = String::new();
    for (i, piece) in inner.split('<').enumerate() {
        text += if i == 0 { piece } else { piece.split_once('>').map_or("", |(_, behind)| behind) };
    }
    Some(plain(text.trim()))
}

/// `#x10ffff` is the longest name of an entity that is resolved.
const LONGEST_ENTITY: usize = 8;

/// A text with its entities resolved.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out += before;
        let end = behind.bytes().take(LONGEST_ENTITY + 1).position(|b| b == b';');
        let entity = end.map(|end| (&behind[..end], &behind[end + 1..]));
        let resolved = entity.and_then(|(name, after)| {
            let c = match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                _ => {
                    let number = name.strip_prefix('#')?;
                    let code = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                        None => number.parse().ok()?,
                    };
                    char::from_u32(code)?
                }
            };
            Some((c, after))
        });
        match resolved {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = behind;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(xml: &str) -> Option<String> {
        content(xml, "exif:UserComment")
    }

    #[test]
    fn the_comment_is_read_as_element_list_or_attribute() {
        let list = "<x><exif:UserComment><rdf:Alt><rdf:li xml:lang=\"x-default\">{&quot;c&quot;:&quot;a &amp; b &#x7345;&quot;}\
                    </rdf:li></rdf:Alt></exif:UserComment></x>";
        assert_eq!(comment(list).unwrap(), "{\"c\":\"a & b 獅\"}");
        assert_eq!(comment("<exif:UserComment>a &lt; b & c &x;</exif:UserComment>").unwrap(), "a < b & c &x;");
        let data = "<exif:UserComment><rdf:li><![CDATA[a & b]]></rdf:li></exif:UserComment>";
        assert_eq!(comment(data).unwrap(), "a & b");
        assert_eq!(comment("<d exif:UserComment='a &#65;'/>").unwrap(), "a A");
        for broken in ["", "<exif:UserComment>", "exif:UserComment=", "exif:UserComment=\"", "exif:UserComment"] {
            let _ = comment(broken);
        }
        assert_eq!(comment("<exif:UserComment>a"), None);
    }
}
