/// Seconds of a text such as `90s`, `1.5h`, `1h30m`, `2d` or `3600`; nil when it is none.
public func parseDuration(_ text: String) -> Double? {
  if let seconds = Double(text) { return seconds.isFinite && seconds >= 0 ? seconds : nil }
  var rest = Substring(text.lowercased())
  var seconds = 0.0
  while !rest.isEmpty {
    let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    rest = rest.dropFirst(digits.count)
    guard let number = Double(digits), let unit = rest.popFirst(), let factor = durationUnits[unit] else { return nil }
    seconds += number * factor
  }
  return text.isEmpty || !seconds.isFinite ? nil : seconds
}

private let durationUnits: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
