/// What the 256 codes of an 8-bit moment stand for: bitsandbytes' dynamic map (Dettmers, 2016), rising.
///
/// A value has an exponent of ten and a fraction; the smaller the exponent, the fewer codes its fraction has.
enum DynamicMap {
  /// For values of either sign, from -0.993 to 1.
  static let signed = make(isSigned: true)
  /// For values from 0 to 1.
  static let unsigned = make(isSigned: false)

  private static func make(isSigned: Bool) -> [Float] {
    var values: [Float] = [0, 1]
    for exponent in 0..<7 {
      // Middles of equal parts of 0.1 ... 1.
      let parts = 1 << (isSigned ? exponent : exponent + 1)
      var scale = 1.0
      for _ in exponent..<6 { scale /= 10 }
      for part in 0..<parts {
        let middle = Float(0.1 + 0.9 * (Double(part) + 0.5) / Double(parts))
        values.append(middle * Float(scale))
        if isSigned { values.append(-middle * Float(scale)) }
      }
    }
    return values.sorted()
  }
}
