import Tensors

/// NF4 as its definition reads: what a matrix's elements become when they are quantized in blocks of 64, their absmax
/// values in blocks of 256, and the result rounded to bf16.
enum NF4Reference {
  static func rounded(_ x: [Float]) -> [Float] {
    let blocks = stride(from: 0, to: x.count, by: NF4Blocks.blockLength).map {
      $0..<min($0 + NF4Blocks.blockLength, x.count)
    }
    let absmax = blocks.map { block in x[block].reduce(0) { max($0, abs($1)) } }
    let kept = doublyQuantized(absmax)
    var y = x
    for (index, block) in blocks.enumerated() {
      let factor = absmax[index] > 0 ? 1 / absmax[index] : 0
      for at in block { y[at] = bfloat16(nearest(x[at] * factor, in: NF4.values) * kept[index]) }
    }
    return y
  }

  /// Absmax values, their mean apart, as parts of the largest of 256.
  private static func doublyQuantized(_ absmax: [Float]) -> [Float] {
    let mean = Float(absmax.reduce(0.0) { $0 + Double($1) } / Double(max(absmax.count, 1)))
    var result = absmax
    for start in stride(from: 0, to: absmax.count, by: NF4Blocks.nestedBlockLength) {
      let range = start..<min(start + NF4Blocks.nestedBlockLength, absmax.count)
      let highest = absmax[range].reduce(0) { max($0, abs($1 - mean)) }
      let factor = highest > 0 ? 1 / highest : 0
      for at in range { result[at] = nearest((absmax[at] - mean) * factor, in: NF4.dynamicMap) * highest + mean }
    }
    return result
  }

  /// The nearest of ascending values.
  private static func nearest(_ x: Float, in values: [Float]) -> Float {
    values.min { abs($0 - x) < abs($1 - x) } ?? x
  }

  /// Rounded to nearest, ties to even.
  static func bfloat16(_ x: Float) -> Float {
    let bits = x.bitPattern
    return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16) & 1) & 0xFFFF_0000)
  }
}
