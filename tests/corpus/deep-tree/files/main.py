import os

for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
with open("bottom", "w") as file:
    file.write("x")
print("deep")
