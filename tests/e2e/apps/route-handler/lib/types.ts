export interface Me {
  name: string;
}

export interface Item {
  id: number;
  text: string;
}
