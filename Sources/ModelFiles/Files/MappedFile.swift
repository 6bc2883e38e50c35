import Glibc

/// A file mapped into memory for reading; nothing is read until its bytes are touched.
///
/// The mapping lives as long as this object. The file must not be shortened meanwhile: touching what was cut off ends
/// the process, as with every mapped file.
public final class MappedFile: @unchecked Sendable {
  /// Where the file lies.
  public let path: String
  /// All bytes of the file; valid as long as this object lives.
  public let bytes: UnsafeRawBufferPointer

  private let isOwner: Bool

  /// Takes bytes that somebody else keeps in memory for the life of this object.
  init(path: String, unowned bytes: UnsafeRawBufferPointer) {
    self.path = path
    self.bytes = bytes
    isOwner = false
  }

  /// Maps a file.
  public init(path: String) throws(ModelFileError) {
    // Not blocking, so that a pipe is refused below instead of waited for.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0 { throw .system(path, "open") }
    defer { close(descriptor) }
    isOwner = true
    var status = stat()
    if fstat(descriptor, &status) != 0 { throw .system(path, "open") }
    if status.st_mode & S_IFMT == S_IFDIR { throw ModelFileError(path, "this is a folder, a file was expected") }
    if status.st_mode & S_IFMT != S_IFREG { throw ModelFileError(path, "this is no regular file") }
    guard let size = Int(exactly: status.st_size), size > 0 else {
      self.path = path
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
      throw .system(path, "map into memory")
    }
    self.path = path
    bytes = UnsafeRawBufferPointer(start: base, count: size)
  }

  /// A copy of all bytes of a file.
  public static func contents(of path: String) throws(ModelFileError) -> [UInt8] {
    let file = try MappedFile(path: path)
    return withExtendedLifetime(file) { Array(file.bytes) }
  }

  deinit {
    if isOwner, let base = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) }
  }

  /// Asks the system to read a range soon.
  public func prefetch(_ range: Range<Int>) { advise(range, MADV_WILLNEED, inner: false) }

  /// Gives back the memory of a range; it is read again from the file when it is touched.
  public func release(_ range: Range<Int>) { advise(range, MADV_DONTNEED, inner: true) }

  /// Advises about the pages that a range touches, or with `inner` about those that lie wholly within it.
  private func advise(_ range: Range<Int>, _ advice: Int32, inner: Bool) {
    guard let base = bytes.baseAddress else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let range = range.clamped(to: 0..<bytes.count)
    var (start, end) = (range.lowerBound / page * page, range.upperBound)
    if inner {
      start = (range.lowerBound + page - 1) / page * page
      if end < bytes.count { end = end / page * page }
    }
    if start < end { _ = madvise(UnsafeMutableRawPointer(mutating: base + start), end - start, advice) }
  }
}
