import Glibc

/// The bytes of a data file from the first to the last, decompressed on the way.
final class ByteStream {
  /// How the file is compressed.
  let compression: Compression
  private let path: String
  private let descriptor: Int32
  private let decompressor: (any Decompressor)?
  private let input: UnsafeMutableRawBufferPointer
  private var pending = 0..<0
  private var isAtEnd = false

  /// Opens a file; `path` is what errors name.
  init(file: String, path: String) throws(DatasetError) {
    self.path = path
    // Not blocking, so that a pipe without a writer is refused below instead of waited for.
    let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw DatasetError(path: path, "cannot be opened: \(String(cString: strerror(errno)))")
    }
    var status = stat()
    fstat(descriptor, &status)
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw DatasetError(path: path, "this is no regular file; data on a pipe is read with `--data -`")
    }
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
    self.descriptor = descriptor
    input = .allocate(byteCount: 1 << 18, alignment: 16)
    // Every stored property first: `deinit` cleans up whatever throws below.
    let first = Self.fill(descriptor, input)
    pending = 0..<max(0, first)
    compression = Compression(firstBytes: UnsafeRawBufferPointer(rebasing: input[pending]))
    var decompressor: (any Decompressor)?
    var problem: DecompressionProblem?
    do throws(DecompressionProblem) {
      switch compression {
      case .none: break
      case .gzip: decompressor = try GzipDecompressor()
      case .zstd: decompressor = try ZstdDecompressor()
      }
    } catch {
      problem = error
    }
    self.decompressor = decompressor
    if let problem { throw DatasetError(path: path, problem.message) }
    if first < 0 { throw DatasetError(path: path, "cannot be read: \(String(cString: strerror(errno)))") }
  }

  deinit {
    close(descriptor)
    input.deallocate()
  }

  /// Reads some bytes; 0 at the end.
  func read(into output: UnsafeMutableRawBufferPointer) throws(DatasetError) -> Int {
    guard !output.isEmpty else { return 0 }
    while true {
      if pending.isEmpty, !isAtEnd {
        let count = Self.fill(descriptor, input)
        if count < 0 { throw DatasetError(path: path, "cannot be read: \(String(cString: strerror(errno)))") }
        isAtEnd = count == 0
        pending = 0..<count
      }
      guard let decompressor else {
        let count = min(pending.count, output.count)
        output.copyMemory(from: UnsafeRawBufferPointer(rebasing: input[pending.prefix(count)]))
        pending = pending.lowerBound + count..<pending.upperBound
        return count
      }
      let wasEmpty = pending.isEmpty
      if wasEmpty, decompressor.isComplete { return 0 }
      let moved: (consumed: Int, produced: Int)
      do throws(DecompressionProblem) {
        moved = try decompressor.step(UnsafeRawBufferPointer(rebasing: input[pending]), output)
      } catch {
        throw DatasetError(path: path, error.message)
      }
      pending = pending.lowerBound + moved.consumed..<pending.upperBound
      if moved.produced > 0 { return moved.produced }
      if wasEmpty, isAtEnd {
        throw DatasetError(path: path, "the \(compression.rawValue) data ends in the middle; fetch the file again")
      }
    }
  }

  /// Bytes read, 0 at the end, -1 on an error.
  private static func fill(_ descriptor: Int32, _ input: UnsafeMutableRawBufferPointer) -> Int {
    while true {
      let count = Glibc.read(descriptor, input.baseAddress, input.count)
      if count >= 0 || errno != EINTR { return count }
    }
  }
}
