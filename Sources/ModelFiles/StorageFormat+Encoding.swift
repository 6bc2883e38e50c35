import CBlockFormats

extension StorageFormat {
  /// Encodes blocks of fp32; `nil` for fp32 itself and for what cannot be encoded.
  private var encoder: sl_block_encoder? {
    switch self {
    case .float16: sl_encode_f16
    case .bfloat16: sl_encode_bf16
    case .q4_0: sl_encode_q4_0
    case .q4_1: sl_encode_q4_1
    case .q5_0: sl_encode_q5_0
    case .q5_1: sl_encode_q5_1
    case .q8_0: sl_encode_q8_0
    case .q4_K: sl_encode_q4_k
    case .q5_K: sl_encode_q5_k
    case .q6_K: sl_encode_q6_k
    default: nil
    }
  }

  /// Whether floats can be written in this format.
  public var isEncodable: Bool { self == .float32 || encoder != nil }

  /// The largest value that the format can take in, whatever stands beside it: scales of blocks are f16.
  private var greatest: Float {
    switch self {
    case .float32: .greatestFiniteMagnitude
    // What still rounds down to it.
    case .bfloat16: Float(bitPattern: 0x7F7F_7FFF)
    case .float16: Float(65520).nextDown
    default: 65504
    }
  }

  /// Encodes floats, whole blocks of them, to `target`; several threads may encode at once.
  ///
  /// Throws when the format holds no floats, or a value is not finite or too large for it; `name` and `path` are the
  /// tensor's, for the message.
  public func encode(
    _ floats: UnsafeBufferPointer<Float>, into target: UnsafeMutableRawPointer, of name: String, path: String
  ) throws(ModelFileError) {
    guard let source = floats.baseAddress else { return }
    guard isEncodable, floats.count % block.length == 0 else {
      throw ModelFileError(path, "tensor \(quoted(name)) is \(self.name) and takes no \(floats.count) floats")
    }
    guard sl_is_within_f32(source, Int64(floats.count), greatest) != 0 else {
      throw ModelFileError(
        path, "tensor \(quoted(name)) has a value that \(self.name) cannot hold; choose another type")
    }
    if let encoder {
      encoder(source, Int64(floats.count / block.length), target)
    } else {
      target.copyMemory(from: source, byteCount: floats.count * 4)
    }
  }
}

extension StorageFormat {
  /// What is left of floats, whole blocks of them, that were encoded and decoded again.
  package func roundTrip(
    _ floats: [Float], into others: inout [Float], of name: String, path: String
  ) throws(ModelFileError) {
    guard self != .float32 else {
      others = floats
      return
    }
    guard let decoder else { throw ModelFileError(path, "\(self.name) cannot be decoded") }
    let blocks = floats.count / block.length
    let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(blocks * block.byteCount, 1), alignment: 64)
    defer { bytes.deallocate() }
    let result = floats.withUnsafeBufferPointer { floats in
      Result { () throws(ModelFileError) in try encode(floats, into: bytes, of: name, path: path) }
    }
    try result.get()
    if others.count != floats.count { others = floats }
    others.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { decoder(bytes, Int64(blocks), base) } }
  }
}
