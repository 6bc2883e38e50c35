// The documentation of what this implements stands in `Device`.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

// What a device that computes in the host's memory, one matrix at a time, need not say.
extension Device {
  public var headRows: Int { 256 }
  public func operandTail(ranks: [Int]) -> Int? { nil }
  public var memory: DeviceMemory? { nil }
  public func resetPeak() {}
  public func allocateGrowing(byteCount: Int) throws -> DeviceBuffer { try allocate(byteCount: byteCount) }
  public func makeTimer() throws -> (any DeviceTimer)? { nil }
  public var embedsTokens: Bool { false }
  public func embed(_ tokens: [Int32], _ table: any FrozenMatrix, into x: Tensor) throws {
    throw DeviceError("\(description) looks no embeddings up")
  }
  public func makeRandomMatrices(
    outputs: [Int], inputs: Int, bound: Float, seed: UInt64, storage: FrozenStorage, segment: MatrixSegment?
  ) throws -> [any FrozenMatrix] {
    let sources = outputs.enumerated().map { index, outputs in
      MatrixSource(outputs: outputs, inputs: inputs, storage: storage) { rows, values in
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
    return try makeFrozenMatrices(sources, directions: [.forward, .backward])
  }

  /// Takes in one frozen matrix `[outputs, inputs]`; `decode` writes the rows of a range as
  /// dense fp32, and may be called from several threads at once.
  public func makeFrozenMatrix(
    outputs: Int, inputs: Int, directions: ProductDirections, storage: FrozenStorage = .operands,
    decode: @escaping MatrixSource.Decode
  ) throws -> any FrozenMatrix {
    let source = MatrixSource(outputs: outputs, inputs: inputs, storage: storage, decode: decode)
    guard let matrix = try makeFrozenMatrices([source], directions: directions).first else {
      throw DeviceError("\(description) made no matrix")
    }
    return matrix
  }
}
