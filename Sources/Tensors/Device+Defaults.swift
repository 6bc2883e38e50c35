// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

// What a device that computes in the host's memory, one matrix at a time, need not say.
extension Device {
  public var headRows: Int { 256 }
  public func operandTail(ranks: [Int]) -> Int? { nil }
  public var memory: (used: Int, peak: Int, free: Int)? { nil }
  public func resetPeak() {}
  public var embedsTokens: Bool { false }
  public func embed(_ tokens: [Int32], _ table: any FrozenMatrix, into x: Tensor) throws {
    throw DeviceError("\(description) looks no embeddings up")
  }
  public func makeRandomMatrices(outputs: [Int], inputs: Int, bound: Float, seed: UInt64) throws -> [any FrozenMatrix] {
    try makeFrozenMatrices(outputs: outputs, inputs: inputs, directions: [.forward, .backward]) { index, rows, values in
      for row in rows {
        // SplitMix64, of a state that no other row has.
        var state = seed &+ UInt64(index) << 48 &+ UInt64(row) << 24
        for column in 0..<inputs {
          state &+= 0x9E37_79B9_7F4A_7C15
          var z = (state ^ state >> 30) &* 0xBF58_476D_1CE4_E5B9
          z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
          values[(row - rows.lowerBound) * inputs + column] = (Float(z >> 40) * 0x1p-23 - 1) * bound
        }
      }
    }
  }
  public func makeFrozenMatrices(
    outputs: [Int], inputs: Int, directions: ProductDirections,
    decode: @Sendable (Int, Range<Int>, UnsafeMutablePointer<Float>) throws -> Void
  ) throws -> [any FrozenMatrix] {
    try outputs.enumerated().map { index, outputs in
      try makeFrozenMatrix(outputs: outputs, inputs: inputs, directions: directions) { try decode(index, $0, $1) }
    }
  }
}
