import CZlib
import CZstd

/// How the bytes of a data file are compressed, told by its first bytes.
public enum Compression: String, Sendable {
  /// Not at all.
  case none
  /// RFC 1952, one member or several.
  case gzip
  /// RFC 8878, one frame or several.
  case zstd

  /// The compression that a file with these first bytes has.
  init(firstBytes bytes: UnsafeRawBufferPointer) {
    if bytes.starts(with: [0x1F, 0x8B]) {
      self = .gzip
    } else if bytes.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) {
      self = .zstd
    } else {
      self = .none
    }
  }
}

/// Turns compressed bytes into plain ones, piece by piece.
protocol Decompressor: AnyObject {
  /// Moves bytes from `input` to `output` and says how many of each; an output of none with input left means: go on.
  func step(_ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer) throws(DecompressionProblem)
    -> (consumed: Int, produced: Int)
  /// Whether the input may end here.
  var isComplete: Bool { get }
}

/// Why compressed bytes cannot be read.
struct DecompressionProblem: Error {
  let message: String
}

/// gzip by zlib.
final class GzipDecompressor: Decompressor {
  private var stream = z_stream()
  private(set) var isComplete = false

  init() throws(DecompressionProblem) {
    // 16: gzip's header and checksum.
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw DecompressionProblem(message: "zlib cannot be started")
    }
  }

  deinit { inflateEnd(&stream) }

  func step(
    _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer
  ) throws(DecompressionProblem) -> (consumed: Int, produced: Int) {
    if isComplete {
      // Zeros may fill up the last block of a tape or disk; anything else begins a new member.
      if input.allSatisfy({ $0 == 0 }) { return (input.count, 0) }
      inflateReset(&stream)
      isComplete = false
    }
    stream.next_in = UnsafeMutablePointer(
      mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
    stream.avail_in = UInt32(input.count)
    stream.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.avail_out = UInt32(output.count)
    let status = inflate(&stream, Z_NO_FLUSH)
    guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
      throw DecompressionProblem(message: "the gzip data is damaged")
    }
    isComplete = status == Z_STREAM_END
    return (input.count - Int(stream.avail_in), output.count - Int(stream.avail_out))
  }
}

/// Zstandard by libzstd.
final class ZstdDecompressor: Decompressor {
  private let stream: OpaquePointer
  private(set) var isComplete = false

  init() throws(DecompressionProblem) {
    guard let stream = ZSTD_createDStream() else { throw DecompressionProblem(message: "libzstd cannot be started") }
    self.stream = stream
    ZSTD_initDStream(stream)
  }

  deinit { ZSTD_freeDStream(stream) }

  func step(
    _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer
  ) throws(DecompressionProblem) -> (consumed: Int, produced: Int) {
    var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
    var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
    let left = ZSTD_decompressStream(stream, &target, &source)
    guard ZSTD_isError(left) == 0 else { throw DecompressionProblem(message: "the zstd data is damaged") }
    isComplete = left == 0
    return (source.pos, target.pos)
  }
}
