/// A frozen matrix to be: where its elements come from, in the forms that the checkpoint has them in, and how to keep them.
public struct MatrixSource: Sendable {
  /// Writes the rows of a range as dense fp32; may be called from several threads at once.
  public typealias Decode = @Sendable (Range<Int>, UnsafeMutablePointer<Float>) throws -> Void

  /// The rows as they are stored, where they are stored as floating-point numbers one by one and in order.
  public struct Stored: Sendable {
    /// fp32, bf16 or fp16.
    public var dtype: DType
    /// Writes the rows of a range as they are stored, dense; may be called from several threads at once.
    public var read: @Sendable (Range<Int>, UnsafeMutableRawPointer) throws -> Void

    /// Rows from their type and their reader.
    public init(dtype: DType, read: @escaping @Sendable (Range<Int>, UnsafeMutableRawPointer) throws -> Void) {
      self.dtype = dtype
      self.read = read
    }
  }

  /// The rows in blocks, where they are stored in a format that decoding can read as it is.
  public struct Blocks: Sendable {
    /// How the blocks are stored.
    public var format: BlockFormat
    /// Where a row's blocks begin; valid while the checkpoint lives.
    public var row: @Sendable (Int) -> UnsafeRawPointer?

    /// Blocks from their format and their places.
    public init(format: BlockFormat, row: @escaping @Sendable (Int) -> UnsafeRawPointer?) {
      self.format = format
      self.row = row
    }
  }

  /// The number of output features: rows.
  public let outputs: Int
  /// The number of input features: columns.
  public let inputs: Int
  /// How the device keeps the elements.
  public var storage: FrozenStorage
  /// The rows in fp32.
  public let decode: Decode
  /// The rows as they are stored.
  public var stored: Stored?
  /// The whole matrix, where it is stored in NF4.
  public var nf4: NF4Blocks?
  /// The whole matrix, where it is stored in blocks of a GGUF format.
  public var blocks: Blocks?
  /// Where it lies when it does not stay on the device.
  public var segment: MatrixSegment?

  /// A matrix `[outputs, inputs]` that `decode` writes, and that is stored as given.
  public init(
    outputs: Int, inputs: Int, storage: FrozenStorage = .operands, stored: Stored? = nil, nf4: NF4Blocks? = nil,
    decode: @escaping Decode
  ) {
    self.outputs = outputs
    self.inputs = inputs
    self.storage = storage
    self.stored = stored
    self.nf4 = nf4
    self.decode = decode
  }
}
