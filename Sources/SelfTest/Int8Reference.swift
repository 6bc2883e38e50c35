/// 8 bits as their definition reads: blocks of 64 elements as multiples of their largest magnitude / 127, rounded to bf16.
enum Int8Reference {
  static func rounded(_ x: [Float]) -> [Float] {
    var y = x
    for start in stride(from: 0, to: x.count, by: 64) {
      let block = start..<min(start + 64, x.count)
      let highest = x[block].reduce(0) { max($0, abs($1)) }
      guard highest > 0 else { continue }
      for at in block {
        y[at] = NF4Reference.bfloat16((x[at] * (127 / highest)).rounded(.toNearestOrEven) * (highest / 127))
      }
    }
    return y
  }
}
