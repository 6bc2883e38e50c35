import CBlockFormats
import Tensors

/// Quantizes a matrix to NF4 while its rows come in.
public struct NF4Encoder {
  /// Elements that share an absmax.
  public static let blockLength = 64

  /// The largest magnitude of each block so far.
  public private(set) var absmax: [Float] = []
  /// Values that are no whole block yet.
  private var pending: [Float] = []
  private var codes: [UInt8] = []

  /// An encoder that has seen nothing.
  public init() {}

  /// Takes the next values of the rows laid end to end; `emit` receives the codes of the blocks that became whole.
  public mutating func append(
    _ values: UnsafeBufferPointer<Float>, emit: (UnsafeRawBufferPointer) throws -> Void
  ) rethrows {
    var rest = values[...]
    if !pending.isEmpty {
      let missing = rest.prefix(Self.blockLength - pending.count)
      pending += missing
      rest = rest.dropFirst(missing.count)
      if pending.count < Self.blockLength { return }
      let block = pending
      pending = []
      try block.withUnsafeBufferPointer { try encode($0, emit) }
    }
    let whole = rest.prefix(rest.count / Self.blockLength * Self.blockLength)
    try encode(UnsafeBufferPointer(rebasing: whole), emit)
    pending += rest.dropFirst(whole.count)
  }

  /// Ends the matrix: `emit` receives the codes of a last block that is short.
  public mutating func finish(emit: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    let block = pending
    pending = []
    try block.withUnsafeBufferPointer { try encode($0, emit) }
  }

  private mutating func encode(
    _ values: UnsafeBufferPointer<Float>, _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) rethrows {
    guard let source = values.baseAddress, values.count > 0 else { return }
    let blocks = (values.count + Self.blockLength - 1) / Self.blockLength
    let byteCount = (values.count + 1) / 2
    if codes.count < byteCount { codes = [UInt8](repeating: 0, count: byteCount) }
    let first = absmax.count
    absmax += repeatElement(0, count: blocks)
    absmax.withUnsafeMutableBufferPointer { absmax in
      if let target = absmax.baseAddress { sl_quantize_nf4(source, Int64(values.count), &codes, target + first) }
    }
    try codes.withUnsafeBytes { try emit(UnsafeRawBufferPointer(rebasing: $0[..<byteCount])) }
  }
}

/// Absmax values that were quantized themselves: QLoRA's double quantization.
public struct DoubleQuantizedAbsmax: Sendable, Equatable {
  /// Absmax values that share a scale.
  public static let blockLength = 256
  /// One code for each block.
  public let codes: [UInt8]
  /// The largest distance from the offset among 256 blocks.
  public let scales: [Float]
  /// The mean of all.
  public let offset: Float

  /// Quantizes absmax values.
  public init(_ absmax: [Float]) {
    var codes = [UInt8](repeating: 0, count: absmax.count)
    var scales = [Float](repeating: 0, count: (absmax.count + Self.blockLength - 1) / Self.blockLength)
    offset = sl_quantize_absmax(absmax, Int64(absmax.count), NF4.dynamicMap, &codes, &scales)
    self.codes = codes
    self.scales = scales
  }

  /// The absmax values as they come back.
  public var decoded: [Float] {
    [Float](unsafeUninitializedCapacity: codes.count) { values, count in
      count = codes.count
      guard let target = values.baseAddress, count > 0 else { return }
      sl_decode_absmax(codes, scales, NF4.dynamicMap, offset, Int64(Self.blockLength), 0, Int64(count), target)
    }
  }
}
