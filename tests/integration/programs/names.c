/* What the calls on names and files answer: prints the same on Linux and on Oxbow. Run in an empty writable folder; asks
   for nothing that needs privilege. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

/* Room for struct statx, which older headers lack: mask, mode and size are where they are. */
struct extended {
    unsigned stx_mask, block_size;
    unsigned long attributes;
    unsigned links, uid, gid;
    unsigned short stx_mode, spare;
    unsigned long ino, stx_size;
    char rest[200];
};

static int number;

/* Descriptors differ from system to system: only whether there is one. */
static void show(const char *what, long result, int is_fd) {
    int e = errno;
    if (is_fd && result >= 0) result = 0;
    printf("%d %s: %s\n", ++number, what, result < 0 ? strerror(e) : "");
    if (result > 0) printf("= %ld\n", result);
    fflush(stdout);
}
#define T(call) do { errno = 0; long r = (long)(call); show(#call, r, strstr(#call, "open") != 0); } while (0)

int main(void) {
    char b[5000];
    struct stat st;
    struct extended sx;
    int fd;
    umask(022);
    mkdir("w",0755);
    chdir("w");
    T(open("",O_RDONLY));
    T(open("nope",O_RDONLY));
    T(fd=open("f",O_CREAT|O_EXCL|O_RDWR,0666));
    T(open("f",O_CREAT|O_EXCL,0666));
    T(write(fd,"hello",5));
    T(lseek(fd,0,SEEK_SET));
    T(read(fd,b,10));
    T(lseek(fd,-1,SEEK_SET));
    T(lseek(fd,100,SEEK_END));
    T(write(fd,"x",1));
    T(fstat(fd,&st));
    printf("size %ld mode %o nlink %ld\n",(long)st.st_size,st.st_mode,(long)st.st_nlink);
    T(pwrite(fd,"y",1,-1));
    T(ftruncate(fd,-1));
    T(ftruncate(fd,3));
    T(fcntl(fd,F_GETFL));
    T(lseek(fd,0,SEEK_DATA));
    T(lseek(fd,0,SEEK_HOLE));
    T(lseek(fd,3,SEEK_DATA));
    T(lseek(fd,0,99));
    T(open("f/",O_RDONLY));
    T(open("f/x",O_RDONLY));
    T(open("f",O_DIRECTORY));
    T(open(".",O_WRONLY));
    T(open(".",O_CREAT,0666));
    T(open("d/",O_CREAT,0666));
    T(open("f",O_RDONLY|O_NOFOLLOW));
    T(symlink("f","l"));
    T(symlink("f","l"));
    T(symlink("","l2"));
    T(open("l",O_NOFOLLOW));
    T(readlink("l",b,100));
    T(readlink("f",b,100));
    T(readlink("l",b,0));
    T(lstat("l",&st));
    printf("%o %ld\n",st.st_mode,(long)st.st_size);
    T(symlink("loop","loop"));
    T(open("loop",O_RDONLY));
    T(stat("loop",&st));
    T(unlink("loop"));
    T(mkdir("d",0777));
    T(mkdir("d",0777));
    T(mkdir("d/",0777));
    T(mkdir("e/",0777));
    T(mkdir("x/y",0777));
    T(mkdir("/",0777));
    T(mkdir(".",0777));
    T(mkdir("d/..",0777));
    T(mkdir("f/x",0777));
    T(rmdir("f"));
    T(rmdir("d/."));
    T(rmdir("d/.."));
    T(rmdir("/"));
    T(rmdir("nope"));
    T(rmdir("e"));
    T(unlink("d"));
    T(unlink("d/"));
    T(unlink("f/"));
    T(unlink("."));
    T(unlink(".."));
    T(unlink("/"));
    T(link("f","d/g"));
    T(link("d","dd"));
    T(link("nope","x"));
    T(link("f","d/g"));
    T(link("l","ll"));
    T(lstat("ll",&st));
    printf("%o\n",st.st_mode);
    T(linkat(AT_FDCWD,"l",AT_FDCWD,"lll",AT_SYMLINK_FOLLOW));
    T(lstat("lll",&st));
    printf("%o\n",st.st_mode);
    T(link("f","new/"));
    T(link("f/","x"));
    T(rename("d","d/x"));
    T(rename("f","d"));
    T(rename("d","f"));
    T(rename("nope","f"));
    T(rename("f","f"));
    T(rename("f","d/g"));
    T(access("f",F_OK));
    T(rename("d","D"));
    T(rename("D","d/"));
    T(rename("f","h/"));
    T(rename(".","x"));
    T(rename("d",".."));
    T(rename("d/..","x"));
    T(mkdir("e2",0777));
    T(rename("d","e2"));
    T(rename("e2","d"));
    T(mkdir("e3",0777));
    T(rename("e3","d"));
    T(syscall(SYS_renameat2,AT_FDCWD,"f",AT_FDCWD,"d/g",1));
    T(syscall(SYS_renameat2,AT_FDCWD,"f",AT_FDCWD,"d",2));
    T(lstat("f",&st));
    printf("%o\n",st.st_mode);
    T(syscall(SYS_renameat2,AT_FDCWD,"f",AT_FDCWD,"d",2));
    T(syscall(SYS_renameat2,AT_FDCWD,"f",AT_FDCWD,"nope",2));
    T(syscall(SYS_renameat2,AT_FDCWD,"f",AT_FDCWD,"d",3));
    T(syscall(SYS_renameat2,AT_FDCWD,"f",AT_FDCWD,"d",8));
    memset(b,'a',4999);
    b[4999]=0;
    T(open(b,O_RDONLY));
    b[256]=0;
    T(open(b,O_RDONLY));
    T(mkdir(b,0777));
    b[255]=0;
    T(mkdir(b,0777));
    T(rmdir(b));
    T(chmod("f",0644));
    T(chmod("nope",0644));
    T(fchmodat(AT_FDCWD,"l",0600,AT_SYMLINK_NOFOLLOW));
    T(chmod("f",05777));
    T(stat("f",&st));
    printf("%o\n",st.st_mode);
    T(stat("f",&st));
    T(lstat("l",&st));
    T(truncate("f",10));
    T(truncate("d",10));
    T(truncate("nope",10));
    T(truncate("f",-1));
    struct timespec ts[2]={{1,2},{3,4}}
    ;
    T(utimensat(AT_FDCWD,"f",ts,0));
    T(stat("f",&st));
    printf("%ld.%ld %ld.%ld\n",st.st_atim.tv_sec,st.st_atim.tv_nsec,st.st_mtim.tv_sec,st.st_mtim.tv_nsec);
    ts[0].tv_nsec=UTIME_OMIT;
    ts[1].tv_nsec=1000000000;
    T(utimensat(AT_FDCWD,"f",ts,0));
    ts[1].tv_nsec=5;
    T(utimensat(AT_FDCWD,"f",ts,0));
    T(stat("f",&st));
    printf("%ld %ld\n",st.st_atim.tv_nsec,st.st_mtim.tv_nsec);
    T(utimensat(AT_FDCWD,"l",ts,AT_SYMLINK_NOFOLLOW));
    T(utimensat(99,NULL,ts,0));
    T(futimens(fd,ts));
    T(utimes("f",0));
    T(utimensat(AT_FDCWD,"f",ts,4));
    T(mkfifo("p",0666));
    T(mknod("s",S_IFSOCK|0666,0));
    T(open("s",O_RDONLY));
    T(mknod("dd",S_IFDIR,0));
    T(mknod("rr",0666,0));
    T(mknod("xx",0xb000,0));
    T(open("p",O_WRONLY|O_NONBLOCK));
    T(open("p",O_RDONLY|O_NONBLOCK));
    T(access("f",9));
    T(faccessat(AT_FDCWD,"l",F_OK,AT_SYMLINK_NOFOLLOW));
    T(access("d",R_OK|W_OK|X_OK));
    T(open("f",O_PATH));
    int pf=open("f",O_PATH);
    T(read(pf,b,1));
    T(fstat(pf,&st));
    T(fchdir(pf));
    T(close(pf));
    T(openat(99,"f",0));
    T(openat(fd,"f",0));
    T(openat(99,"/",0));
    T(fchdir(fd));
    T(chdir("f"));
    T(chdir("nope"));
    T(syscall(SYS_statx,AT_FDCWD,"f",0,0x7ff,&sx));
    printf("%x %o %d\n",sx.stx_mask&0x7ff,sx.stx_mode,(int)sx.stx_size);
    T(syscall(SYS_statx,fd,"",AT_EMPTY_PATH,0x7ff,&sx));
    T(syscall(SYS_statx,fd,"",0,0x7ff,&sx));
    T(syscall(SYS_newfstatat,fd,"",&st,AT_EMPTY_PATH));
    T(syscall(SYS_newfstatat,AT_FDCWD,"f",&st,1));
    T(syscall(SYS_statx,AT_FDCWD,"f",0,0x80000000,&sx));
    T(syscall(SYS_stat,1,&st));
    T(syscall(SYS_stat,"f",1));
    T(getcwd(b,2)==NULL?-1:0);
    T(mkdir("gone",0777));
    T(chdir("gone"));
    T(rmdir("../gone"));
    T(getcwd(b,100)==NULL?-1:0);
    T(open("x",O_CREAT,0666));
    T(mkdir("x",0666));
    T(open(".",O_RDONLY));
    T(stat(".",&st));
    printf("nlink %ld\n",(long)st.st_nlink);
    { DIR*dd=opendir(".");
      T(dd!=0);
      if(dd){ T(readdir(dd)!=0);closedir(dd);} }
    T(chdir(".."));
    int p2[2];
    pipe(p2);
    T(fsync(p2[0]));
    T(ftruncate(p2[1],0));
    T(lseek(p2[0],0,0));
    T(pread(p2[0],b,1,0));
    T(fchdir(p2[0]));
    T(openat(p2[0],"f",0));
    { int w=open("f",O_WRONLY|O_APPEND);
      T(pwrite(w,"zz",2,0));
      fstat(w,&st);
      printf("%ld\n",(long)st.st_size);
      T(read(w,b,1));
      T(mmap(0,4096,PROT_READ,MAP_SHARED,w,0)==MAP_FAILED?-1:0);
      close(w);
      w=open("f",O_RDONLY);
      T(write(w,"x",1));
      T(ftruncate(w,1));
      T(mmap(0,4096,PROT_WRITE,MAP_SHARED,w,0)==MAP_FAILED?-1:0);
      T(mmap(0,4096,PROT_READ,MAP_SHARED,w,1)==MAP_FAILED?-1:0);close(w);}
    { fd=open("mm",O_CREAT|O_RDWR,0644);
      ftruncate(fd,8192);
      char*m=mmap(0,8192,PROT_READ|PROT_WRITE,MAP_SHARED,fd,0);
      strcpy(m,"via map");
      pread(fd,b,20,0);
      printf("[%s]\n",b);
      pwrite(fd,"VIA",3,0);
      printf("[%s]\n",m);
      m[5000]='q';
      msync(m,8192,MS_SYNC);
      pread(fd,b,1,5000);
      printf("%c\n",b[0]);
      ftruncate(fd,100);
      ftruncate(fd,8192);
      printf("%d\n",m[5000]);
      unlink("mm");
      fstat(fd,&st);
      printf("%ld\n",(long)st.st_nlink);
      sprintf(b,"/proc/self/fd/%d",fd);
      char c[200];
      int k=readlink(b,c,199);
      c[k]=0;
      printf("%s\n",strrchr(c,'/'));
      int f2=open(b,O_RDWR);
      T(pwrite(f2,"ok",2,0));
      printf("%.3s\n",m);
      T(linkat(AT_FDCWD,b,AT_FDCWD,"back",AT_SYMLINK_FOLLOW));
      T(stat(b,&st));
      }
    T(open("d/x",O_CREAT|O_RDWR,0666));
    T(mkdir("d/x",0777));
    T(rmdir("d"));
    T(rename("d","dx"));
    T(rename("f","d/f"));
    T(open("d/x",O_CREAT|O_RDWR,0666));
    T(open("d",O_TMPFILE|O_RDONLY));
    T(syscall(SYS_openat2,AT_FDCWD,"f",(long[]){O_RDONLY,0,8},24));
    T(syscall(SYS_openat2,AT_FDCWD,"../x",(long[]){O_RDONLY,0,8},24));
    T(syscall(SYS_openat2,AT_FDCWD,"f",(long[]){O_RDONLY,1,0},24));
    T(syscall(SYS_openat2,AT_FDCWD,"f",(long[]){O_RDONLY,0,0x1000},24));
    T(syscall(SYS_openat2,AT_FDCWD,"f",(long[]){O_RDONLY,0,0},8));
    T(syscall(SYS_openat2,AT_FDCWD,"f",(long[]){O_RDONLY,0,0,1},32));
    T(syscall(SYS_openat2,AT_FDCWD,"l",(long[]){O_RDONLY,0,4},24));
    T(write(fd,"x",1));
    T(read(fd,b,5));
    T(lseek(fd,100,0));
    T(write(fd,"x",1));
    T(read(fd,b,1));
    T(ftruncate(fd,0));
    T(fsync(fd));
    return 0;
}
