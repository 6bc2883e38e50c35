import Glibc

/// Figures as a person reads them: enough digits to compare, no more.
enum Formatting {
  /// `printf`'s `%.*f`: a fixed number of decimals.
  static func fixed(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    let scale = pow(10, Double(decimals))
    guard abs(value) < 1e15 / scale else { return value.description }
    let scaled = Int((abs(value) * scale).rounded())
    let sign = value < 0 && scaled != 0 ? "-" : ""
    let whole = scaled / Int(scale)
    guard decimals > 0 else { return sign + whole.description }
    let fraction = (scaled % Int(scale)).description
    return sign + "\(whole)." + String(repeating: "0", count: decimals - fraction.count) + fraction
  }

  /// `printf`'s `%.2e`, without a sign of the exponent where it is positive: `1.95e-04`, `2.00e00`.
  static func scientific(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return value == 0 ? "0" : fixed(value, 2) }
    var exponent = Int(log10(abs(value)).rounded(.down))
    var mantissa = value / pow(10, Double(exponent))
    // Rounding to two decimals can reach 10.
    if (abs(mantissa) * 100).rounded() >= 1000 {
      mantissa /= 10
      exponent += 1
    }
    let digits = abs(exponent).description
    return fixed(mantissa, 2) + "e" + (exponent < 0 ? "-" : "") + (digits.count < 2 ? "0" : "") + digits
  }

  /// A whole number with separators: `12,345`.
  static func count(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return fixed(value, 0) }
    let digits = Array(Int(abs(value).rounded()).description)
    var text = value <= -0.5 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index).isMultiple(of: 3) { text += "," }
      text.append(digit)
    }
    return text
  }

  /// Bytes in binary units: `1.23 GiB`.
  static func bytes(_ value: Int) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"]
    guard value >= 1024 else { return "\(value) B" }
    var scaled = Double(value) / 1024
    var unit = 0
    while scaled >= 1024, unit < units.count - 1 {
      scaled /= 1024
      unit += 1
    }
    return fixed(scaled, scaled < 10 ? 2 : scaled < 100 ? 1 : 0) + " " + units[unit]
  }

  /// A time span: `8s`, `3m05s`, `2h07m`.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
    let whole = Int(seconds.rounded())
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    if whole < 60 { return "\(whole)s" }
    if whole < 3600 { return "\(whole / 60)m\(two(whole % 60))s" }
    return "\(whole / 3600)h\(two(whole % 3600 / 60))m"
  }
}
