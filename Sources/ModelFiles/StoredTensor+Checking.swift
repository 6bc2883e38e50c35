import CBlockFormats

extension StoredTensor {
  /// Throws when one of `count` decoded values is NaN or infinite: a damaged file, which would only show in what a model
  /// says.
  public func requireFinite(_ values: UnsafePointer<Float>, count: Int) throws(ModelFileError) {
    if sl_is_finite_f32(values, Int64(count)) == 0 { throw notFinite }
  }

  /// Throws when one of the tensor's stored bytes' numbers is NaN or infinite; other formats than fp32, bf16 and f16 are
  /// not looked at.
  public func requireFinite(_ bytes: UnsafeRawBufferPointer) throws(ModelFileError) {
    let count = Int64(bytes.count / format.block.byteCount)
    let isFinite =
      switch format {
      case .float32: sl_is_finite_f32(bytes.baseAddress, count)
      case .bfloat16: sl_is_finite_16(bytes.baseAddress, count, 0x7F80)
      case .float16: sl_is_finite_16(bytes.baseAddress, count, 0x7C00)
      default: Int32(1)
      }
    if isFinite == 0 { throw notFinite }
  }

  private var notFinite: ModelFileError {
    ModelFileError(
      file.path, "tensor \(quoted(name)) holds values that are no finite numbers; the file is damaged, fetch it again")
  }
}
