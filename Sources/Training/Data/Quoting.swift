/// A name from a file as messages show it: in quotes, short, without control characters.
func quoted(_ name: String) -> String {
  let shown = name.unicodeScalars.prefix(80).map { $0.value < 0x20 || $0.value == 0x7F ? "?" : Character($0) }
  return "'\(String(shown))\(name.unicodeScalars.count > 80 ? "…" : "")'"
}
