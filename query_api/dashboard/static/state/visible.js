/** Texts of others, such as topics and payloads. */

/**
 * Return a text whose control and formatting characters can be seen: they could hide or reorder what is around them.
 *
 * @param {string} text
 * @param {string} kept characters that stay, such as line feeds
 */
export function visible(text, kept = "") {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, character => {
    const code = character.codePointAt(0) ?? 0;
    if (kept.includes(character)) return character;
    if (code < 32) return String.fromCharCode(0x2400 + code);
    return code === 127 ? "␡" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}
