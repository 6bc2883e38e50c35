/// The type of a tensor's elements.
public enum DType: String, Sendable, CaseIterable {
  case float32
  case bfloat16
  case float16
  case int32
  case uint8

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .float32, .int32: 4
    case .bfloat16, .float16: 2
    case .uint8: 1
    }
  }
}
