/// Bytes of a text such as `24GB`, `1.5GiB` or `1048576`; nil when it is none.
///
/// `KB`, `MB`, `GB`, `TB` are powers of 1000, `KiB` to `TiB` of 1024; upper and lower case alike.
public func parseByteCount(_ text: String) -> Int? {
  let lower = text.lowercased()
  let digits = lower.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
  guard let number = Double(digits), number >= 0 else { return nil }
  var unit = lower.dropFirst(digits.count)
  while unit.first == " " { unit.removeFirst() }
  guard let factor = byteUnits.first(where: { $0.name == unit })?.factor else { return nil }
  let bytes = (number * factor).rounded()
  return bytes < 9e18 ? Int(bytes) : nil
}

/// The shortest text that ``parseByteCount(_:)`` reads back exactly: `24GB`, `512MiB`, `1234567B`.
public func formatByteCount(_ bytes: Int) -> String {
  for unit in writtenUnits where bytes > 0 && bytes % unit.factor == 0 {
    return "\(bytes / unit.factor)\(unit.name)"
  }
  return "\(bytes)B"
}

/// "1.4 GiB": to read, not to compute with.
public func roundedByteCount(_ bytes: Int) -> String {
  let (value, unit) = bytes >= 1 << 30 ? (Double(bytes) / 1_073_741_824, "GiB") : (Double(bytes) / 1_048_576, "MiB")
  let tenths = Int((value * 10).rounded())
  return "\(tenths / 10).\(tenths % 10) \(unit)"
}

private let byteUnits: [(name: Substring, factor: Double)] = [
  ("", 1), ("b", 1), ("k", 1e3), ("kb", 1e3), ("kib", 1024), ("m", 1e6), ("mb", 1e6), ("mib", 1_048_576),
  ("g", 1e9), ("gb", 1e9), ("gib", 1_073_741_824), ("t", 1e12), ("tb", 1e12), ("tib", 1_099_511_627_776),
]

private let writtenUnits: [(name: String, factor: Int)] = [
  ("TiB", 1 << 40), ("TB", 1_000_000_000_000), ("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20),
  ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1000),
]
